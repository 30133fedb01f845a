"""Arranges events for the base: drops duplicates and what is past retention, resolves nodes, puts rows in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from store.events import STREAMS_PER_DOMAIN
from store.fields import ID, value_type_of
from store.keys import mix
from store.lists import positions_within
from store.records.rows import UserBlock, narrow_to
from store.taxonomy.ordering import stable_order
from store.types import NO_ID

if TYPE_CHECKING:
    from store.building.retention import Retention
    from store.building.widths import Widths
    from store.events import EventRows
    from store.taxonomy.resolve import NodeResolver
    from store.types import I64, U64, AnyArray, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Arranged:
    """The users of one partition, ready to be encoded, and what was left out."""

    block: UserBlock
    num_duplicates: int
    num_expired: int
    """Events past retention."""


def arrange(rows: EventRows, resolver: NodeResolver, widths: Widths, retention: Retention) -> Arranged:
    """Puts the events of some users in the order of the base.

    Of several events with one key, or without a key and with one (user, item, action, time), the first one stays.
    Keys count per user. Ties in time stay in the order of the input.

    Args:
        rows: Every event of these users, oldest source first.
        resolver: Gives the nodes.
        widths: Element types of the block; wide enough for every id.
        retention: What is too old, or too many, to be kept.
    """
    by_time, owner = _by_user_and_time(rows)
    repeated = _repeated(rows, owner, by_time)
    by_time, owner = by_time[~repeated], owner[~repeated]
    kept = retention.keep(owner, rows.stream[by_time] // STREAMS_PER_DOMAIN, rows.timestamp_ms[by_time])
    num_expired = len(by_time) - int(np.count_nonzero(kept))
    if num_expired:
        by_time, owner = by_time[kept], owner[kept]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    bounds = np.append(starts, len(owner))
    block = _block(rows, by_time, bounds, resolver, widths)
    return Arranged(block=block, num_duplicates=int(np.count_nonzero(repeated)), num_expired=num_expired)


def _by_user_and_time(rows: EventRows) -> tuple[I64, I64]:
    """Gives rows in the order (mixed user id, time, input), and the running number of each one's user."""
    key = mix(rows.user)
    by_time = stable_order(key, rows.timestamp_ms)
    owner = np.cumsum(np.diff(key[by_time], prepend=key[by_time[:1]]) != 0)
    return by_time, owner


def _block(rows: EventRows, by_time: I64, bounds: I64, resolver: NodeResolver, widths: Widths) -> UserBlock:
    lengths = np.diff(bounds)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    node = resolver.nodes(rows.item, rows.category, rows.stream)
    at = stable_order(owner, rows.stream[by_time], node[by_time])
    within = positions_within(lengths)
    order = np.empty(len(at), np.uint32)
    order[at] = within  # rows of one user stay among themselves, so `first` is the same before and after
    taken = by_time[at]
    return UserBlock(
        users=rows.user[by_time[bounds[:-1]]],
        bounds=bounds,
        stream=rows.stream[taken],
        node=node[taken],
        timestamp_ms=rows.timestamp_ms[taken],
        item=narrow_to(rows.item[taken], widths.item),
        scene=rows.scene[taken].astype(widths.scene),
        rank=within[at].astype(np.uint32),
        order=order,
        category=narrow_to(rows.category[taken], widths.category),
        key=_keys(rows, taken) if widths.keyed else None,
        fields=tuple(_narrowed(field[taken], width) for field, width in zip(rows.fields, widths.fields, strict=True)),
    )


def _narrowed(field: AnyArray, width: np.dtype[Any]) -> AnyArray:
    return narrow_to(field, width) if value_type_of(field) is ID else field


def _keys(rows: EventRows, taken: I64) -> U64:
    return np.full(len(taken), NO_ID, np.uint64) if rows.key is None else rows.key[taken]


def _repeated(rows: EventRows, owner: I64, by_time: I64) -> Bool:
    """Gives which rows, taken in the order `by_time`, repeat an earlier one of the input."""
    repeated = np.zeros(len(by_time), np.bool_)
    unkeyed = np.arange(len(by_time))
    if rows.key is not None:
        has_key = rows.key[by_time] != NO_ID
        at = np.flatnonzero(has_key)
        at = at[np.argsort(by_time[at])]  # input order, so that the first one stays
        if len(at):
            repeated[_later_equals(at, (owner[at], rows.key[by_time[at]]))] = True
        unkeyed = np.flatnonzero(~has_key)
    user, time = owner[unkeyed], rows.timestamp_ms[by_time[unkeyed]]
    same = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    run = np.flatnonzero(np.append(same, False) | np.append(False, same))  # only these can repeat one another
    if len(run):
        at = unkeyed[run]
        moment = np.cumsum(np.append(0, ~same))[run]
        action = rows.stream[by_time[at]] % STREAMS_PER_DOMAIN
        repeated[_later_equals(at, (moment, action, rows.item[by_time[at]]))] = True
    return repeated


def _later_equals(at: I64, keys: tuple[AnyArray, ...]) -> I64:
    """Gives those of `at` whose keys equal those of an earlier one."""
    order = stable_order(*keys)
    equal = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    return at[order[1:][equal]]
