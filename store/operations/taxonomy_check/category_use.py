"""How often events use which category: distinct (domain, item, category) triples with their number of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.building.event_files import OPTIONAL, REQUIRED, find_behavior_files
from store.dataset.parsing import WordPool, times
from store.dataset.readers import find_files, read_batches
from store.events import STREAMS_PER_DOMAIN
from store.reading.scan import scan
from store.taxonomy.ordering import stable_order
from store.vocabulary import MAX_CODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from store.dataset.bad_rows import BadRows
    from store.dataset.side_tables import IdPools
    from store.reading.snapshot import Snapshot
    from store.types import I64, U64, AnyArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryUse:
    """Distinct triples, ascending by (domain code, item, category)."""

    domains: tuple[str, ...]
    """Name of each domain code."""
    domain: I64
    """Domain code. (T,)"""
    item: U64
    category: U64
    """As given; `NO_ID` = none. (T,)"""
    count: I64
    """Events, at least 1. (T,)"""

    @property
    def num_events(self) -> int:
        """Number of events behind all triples."""
        return int(self.count.sum())


class UseCounter:
    """Counts triples of any number of events in memory bounded by the number of distinct ones."""

    def __init__(self) -> None:
        self._parts: list[tuple[I64, U64, U64, I64]] = []
        self._pending = 0
        self._kept = 0

    def add(self, domain: I64, item: U64, category: U64) -> None:
        """Counts events, columns of length N each."""
        self._parts.append((domain, item, category, np.ones(len(item), np.int64)))
        self._pending += len(item)
        # Merging when as much is new as was kept costs amortised one sort of each row.
        if self._pending > max(self._kept, 1 << 20):
            self._merge()

    def use(self, domains: Iterable[str]) -> CategoryUse:
        """Gives what was counted.

        Args:
            domains: Name of each domain code.
        """
        domain, item, category, count = self._merge()
        return CategoryUse(domains=tuple(domains), domain=domain, item=item, category=category, count=count)

    def _merge(self) -> tuple[I64, U64, U64, I64]:
        nothing = (np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))
        *keys, count = (np.concatenate(column) for column in zip(nothing, *self._parts, strict=True))
        (domain, item, category), total = sum_by_keys(count, *keys)
        self._parts, self._pending, self._kept = [(domain, item, category, total)], 0, len(total)
        return self._parts[0]


def sum_by_keys(count: I64, *keys: AnyArray) -> tuple[list[AnyArray], I64]:
    """Gives the distinct rows of some columns, ascending, and the sum of the counts of each.

    Args:
        count: (N,)
        keys: At least one column of integers, (N,) each.
    """
    order = stable_order(*keys)
    ordered = [key[order] for key in keys]
    new = np.ones(len(order), np.bool_)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in ordered])
    starts = np.flatnonzero(new)
    total: I64 = np.add.reduceat(count[order], starts) if len(starts) else count
    return [key[starts] for key in ordered], total


def read_use(folder: Path, pools: IdPools, bad_rows: BadRows, progress: Callable[[float], None]) -> CategoryUse | None:
    """Counts the triples of the behaviors files of a dataset folder; None when there is no such file.

    Rows that ingest refuses are refused; of side-info fields only the types are looked at.

    Raises:
        InputError: A file cannot be read.
        TooManyBadRowsError: See `BadRows`.
    """
    paths = find_files(folder, "behaviors", many=True)
    if not paths:
        return None
    pools.odd.add(find_behavior_files(folder).odd)
    counter, domains, actions = UseCounter(), WordPool("domain", MAX_CODES), WordPool("action", MAX_CODES)
    for number, path in enumerate(paths):
        for batch in read_batches(path, REQUIRED, OPTIONAL, bad_rows, free=True):
            pools.users.column(batch, "user", required=True)
            item = pools.items.column(batch, "item", required=True)
            category = pools.categories.column(batch, "category", required=False)
            domain = domains.required(batch, "domain")
            actions.required(batch, "action")
            pools.odd.note_times(batch, "timestamp_ms", times(batch, "timestamp_ms"))
            good = batch.report(bad_rows)
            counter.add(domain[good], item[good], category[good])
            progress((number + batch.fraction) / len(paths))
    return counter.use(domains.words())


def snapshot_use(snapshot: Snapshot, progress: Callable[[float], None] = lambda done: None) -> CategoryUse:
    """Counts the triples of all events of a snapshot, base and delta.

    Raises:
        CorruptRecordError: A record is damaged.
    """
    counter = UseCounter()
    num_rows, total = 0, max(snapshot.meta.num_behaviors, 1)
    for rows in scan(snapshot):
        counter.add((rows.stream // STREAMS_PER_DOMAIN).astype(np.int64), rows.item, rows.category)
        num_rows += len(rows)
        progress(min(num_rows / total, 1.0))
    return counter.use(snapshot.vocabulary.domains)
