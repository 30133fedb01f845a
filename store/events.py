"""Behaviors of a dataset folder as columns: read, resolved to nodes, de-duplicated and sorted for the base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from store.errors import InputError
from store.parsing import IdPool, WordPool, times
from store.readers import find_files, read_batches
from store.types import NO_ID, Section, UserColumns, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from store.bad_rows import BadRows
    from store.readers import Batch
    from store.side_tables import IdPools
    from store.taxonomy import Taxonomy
    from store.types import I64, U16, U32, U64, AnyArray, Bool

_REQUIRED = {"user", "item", "category", "domain", "action", "timestamp_ms"}
_OPTIONAL = {"scene", "event_id"}
_MAX_CODES = 256
_MAX_SCENES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Accepted rows in the order of the input, columns of length N."""

    user: U64
    item: U64
    timestamp_ms: I64
    stream: U16
    """Domain code * 256 + action code."""
    scene: U16
    node: U32
    key: U64
    """Event id; `NO_ID` = none."""

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedEvents:
    """Events without duplicates, ordered by (user, stream, node, time, input order)."""

    users: U64
    """Distinct users, ascending. (K,)"""
    bounds: I64
    """Rows of user k: `[bounds[k], bounds[k + 1])`. (K + 1,)"""
    stream: U16
    node: U32
    timestamp_ms: I64
    item: U64
    scene: U16
    rank: U32
    """As in `UserColumns`; so is `order`."""
    order: U32

    def __len__(self) -> int:
        return len(self.node)

    def columns(self) -> Iterator[tuple[int, UserColumns]]:
        """Gives every user's columns, by ascending user id."""
        row = np.arange(len(self))
        owner = np.repeat(np.arange(len(self.users)), np.diff(self.bounds))
        new = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(self.stream, prepend=0) != 0))
        section_bounds = np.searchsorted(new, self.bounds).tolist()
        starts = [*new.tolist(), len(row)]
        streams = self.stream[new].tolist()
        bounds = self.bounds.tolist()
        for at, user in enumerate(self.users.tolist()):
            start, stop = bounds[at], bounds[at + 1]
            sections = tuple(
                Section(
                    domain=streams[s] >> 8, action=streams[s] & 255, start=starts[s] - start, stop=starts[s + 1] - start
                )
                for s in range(section_bounds[at], section_bounds[at + 1])
            )
            yield (
                user,
                UserColumns(
                    sections=sections,
                    node=self.node[start:stop],
                    timestamp_ms=self.timestamp_ms[start:stop],
                    item=self.item[start:stop],
                    scene=self.scene[start:stop],
                    rank=self.rank[start:stop],
                    order=self.order[start:stop],
                ),
            )


class EventReader:
    """Reads behaviors; keeps the words they use."""

    def __init__(self, pools: IdPools, taxonomy: Taxonomy, bad_rows: BadRows) -> None:
        self._pools = pools
        self._taxonomy = taxonomy
        self._bad_rows = bad_rows
        self._domains = WordPool("domain", _MAX_CODES)
        self._actions = WordPool("action", _MAX_CODES)
        self._scenes = WordPool("scene", _MAX_SCENES)

    def read(self, folder: Path, progress: Callable[[float], None]) -> Events:
        """Reads every behaviors file of a folder, in the order of their names.

        Streams and scenes are in first-seen codes until `with_vocabulary`.

        Args:
            folder: The dataset folder.
            progress: Called with the part that is done, 0 to 1.

        Raises:
            InputError: There is no such file, or one cannot be read.
            TooManyBadRowsError: See `BadRows`.
        """
        paths = find_files(folder, "behaviors", many=True)
        if not paths:
            raise InputError(f"{folder}: has no behaviors*.parquet, .csv or .csv.gz; docs/data.md says what they hold")
        parts: list[Events] = []
        for number, path in enumerate(paths):
            for batch in read_batches(path, _REQUIRED, _OPTIONAL, self._bad_rows):
                parts.append(self._convert(batch))
                progress((number + batch.fraction) / len(paths))
        return _join(parts)

    def _convert(self, batch: Batch) -> Events:
        user = self._pools.users.column(batch, "user", required=True)
        item = self._pools.items.column(batch, "item", required=True)
        category = self._pools.categories.column(batch, "category", required=False)
        domain = self._domains.required(batch, "domain")
        action = self._actions.required(batch, "action")
        scene = self._scenes.column(batch, "scene")
        timestamp_ms = times(batch, "timestamp_ms")
        key = np.full(len(batch), NO_ID, np.uint64)
        if "event_id" in batch.columns:
            # A pool of its own per batch: event ids are many and never shown, so their strings are not kept.
            key = IdPool("event").column(batch, "event_id", required=False)
        good = batch.report(self._bad_rows)
        item, domain = item[good], domain[good]
        return Events(
            user=user[good],
            item=item,
            timestamp_ms=timestamp_ms[good],
            stream=(domain * _MAX_CODES + action[good]).astype(np.uint16),
            scene=scene[good].astype(np.uint16),
            node=self._nodes(item, category[good], domain),
            key=key[good],
        )

    def _nodes(self, item: U64, category: U64, domain: I64) -> U32:
        node = self._taxonomy.item_node(item)
        unknown = np.flatnonzero(node == self._taxonomy.unmapped)
        for code, word in enumerate(self._domains.words()):
            rows = unknown[domain[unknown] == code]
            if len(rows):
                node[rows] = self._taxonomy.category_node(category[rows], word)
        return node

    def with_vocabulary(self, events: Events, kept: I64) -> tuple[Events, Vocabulary]:
        """Replaces first-seen codes by positions in the sorted words, so that equal rows give equal stores.

        Args:
            events: What `read` gave.
            kept: The rows that are no duplicates: only their words count.
        """
        streams = np.unique(events.stream[kept]).astype(np.int64)
        domains, domain_code = self._domains.vocabulary(np.unique(streams // _MAX_CODES))
        actions, action_code = self._actions.vocabulary(np.unique(streams % _MAX_CODES))
        scenes, scene_code = self._scenes.vocabulary(np.unique(events.scene[kept]).astype(np.int64))
        recode = np.zeros(_MAX_CODES * _MAX_CODES, np.uint16)
        recode[streams] = domain_code[streams // _MAX_CODES] * _MAX_CODES + action_code[streams % _MAX_CODES]
        coded = replace(events, stream=recode[events.stream], scene=scene_code.astype(np.uint16)[events.scene])
        return coded, Vocabulary(domains=domains, actions=actions, scenes=scenes)


def sort_events(events: Events, reader: EventReader) -> tuple[SortedEvents, Vocabulary]:
    """Drops duplicates and puts events in the order of the base.

    Of several events with one key, or without a key and with one (user, item, action, time), the first of the input
    stays. Keys count per user.
    """
    users, owner = np.unique(events.user, return_inverse=True)
    by_time = stable_order(owner, events.timestamp_ms)
    by_time = by_time[~_repeated(events, owner, by_time)]
    events, vocabulary = reader.with_vocabulary(events, by_time)
    owner = owner[by_time]
    bounds = np.searchsorted(owner, np.arange(len(users) + 1))
    rank = np.arange(len(owner)) - bounds[owner]
    rows = stable_order(owner, events.stream[by_time], events.node[by_time])
    order = np.empty(len(rows), np.uint32)
    order[rows] = np.arange(len(rows)) - bounds[owner]  # rows of one user stay among themselves: owner[rows] == owner
    taken = by_time[rows]
    ordered = SortedEvents(
        users=users,
        bounds=bounds,
        stream=events.stream[taken],
        node=events.node[taken],
        timestamp_ms=events.timestamp_ms[taken],
        item=events.item[taken],
        scene=events.scene[taken],
        rank=rank[rows].astype(np.uint32),
        order=order,
    )
    return ordered, vocabulary


def stable_order(*keys: AnyArray) -> I64:
    """Gives the order of rows by several integer keys, the first one first; ties stay in order.

    Keys are packed into as few 64-bit words as their ranges allow: one stable sort of a word is three times as fast
    as `np.lexsort` of two keys.
    """
    words: list[U64] = []
    free_bits = 0
    for key in keys:
        low = key.min() if len(key) else 0
        shifted = (key - low).astype(np.uint64)
        bits = int(shifted.max(initial=0)).bit_length()
        if words and bits <= free_bits:
            words[-1] = (words[-1] << np.uint64(bits)) | shifted
            free_bits -= bits
        else:
            words.append(shifted)
            free_bits = 64 - bits
    if len(words) == 1:
        return np.argsort(words[0], kind="stable")
    return np.lexsort(words[::-1])


def _repeated(events: Events, owner: I64, by_time: I64) -> Bool:
    """Gives which rows, taken in the order `by_time`, repeat an earlier one of the input."""
    repeated = np.zeros(len(by_time), np.bool_)
    keyed = events.key[by_time] != NO_ID
    at = np.flatnonzero(keyed)
    if len(at):
        at = at[np.argsort(by_time[at])]  # input order, so that the first one stays
        key, user = events.key[by_time[at]], owner[by_time[at]]
        repeated[_later_equals(at, (user, key))] = True
    at = np.flatnonzero(~keyed)
    user, time = owner[by_time[at]], events.timestamp_ms[by_time[at]]
    same = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    run = np.flatnonzero(np.append(same, False) | np.append(False, same))  # only these can repeat one another
    at = at[run]
    if len(at):
        rows = by_time[at]
        moment = np.cumsum(np.append(0, ~same))[run]
        repeated[_later_equals(at, (moment, events.stream[rows] % _MAX_CODES, events.item[rows]))] = True
    return repeated


def _later_equals(at: I64, keys: tuple[AnyArray, ...]) -> I64:
    """Gives those of `at` whose keys equal those of an earlier one."""
    order = stable_order(*keys)
    equal = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    return at[order[1:][equal]]


def _join(parts: list[Events]) -> Events:
    def column(name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *(getattr(part, name) for part in parts)])

    return Events(
        user=column("user", np.uint64),
        item=column("item", np.uint64),
        timestamp_ms=column("timestamp_ms", np.int64),
        stream=column("stream", np.uint16),
        scene=column("scene", np.uint16),
        node=column("node", np.uint32),
        key=column("key", np.uint64),
    )
