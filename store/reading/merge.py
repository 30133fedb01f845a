"""Base and delta rows of one user as one: the same columns as if a build had merged them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from store.columns import Columns
from store.records.rows import stream_of_rows, widen
from store.types import NO_ID, Section, UserColumns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.types import I64, U16, U32, U64, AnyArray, Unsigned

_MANY = 16
"""Base rows for each live row below which sorting all rows again is cheaper than inserting."""
_LARGEST = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF, 8: NO_ID}
"""Largest value of an unsigned type, by bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRows(Columns):
    """A user's delta rows in the codes and node numbers of a generation, in the order of their sequence numbers."""

    stream: U16
    """Domain code * 256 + action code. (N,)"""
    node: U32
    timestamp_ms: I64
    item: U64
    scene: U16


def merge_columns(base: UserColumns, live: LiveRows) -> UserColumns:
    """Gives the base and the live rows of a user as one: N + K of them, in new arrays.

    Rows are ordered as `UserColumns` says; of one time, base rows come first, then live rows in the order of their
    sequence numbers. With few live rows nothing is sorted but these: columns are copied in slices between them.

    Args:
        base: N rows; none is fine.
        live: K rows; none is fine.
    """
    few = len(live) * _MANY <= base.num_behaviors
    insertion = _Inserted(base, live) if few else _Sorted(base, live)
    rank, order = insertion.rank_and_order()
    scene_type = base.scene.dtype if int(live.scene.max(initial=0)) <= _LARGEST[base.scene.itemsize] else np.uint16
    return UserColumns(
        sections=_sections(base.sections, live.stream),
        node=insertion.weave(base.node, live.node),
        timestamp_ms=insertion.weave(base.timestamp_ms, live.timestamp_ms),
        item=insertion.weave(*_ids_of_one_type(base.item, live.item)),
        scene=insertion.weave(base.scene.astype(scene_type, copy=False), live.scene.astype(scene_type, copy=False)),
        rank=rank,
        order=order,
    )


def _ids_of_one_type(base: Unsigned, live: U64) -> tuple[Unsigned, Unsigned]:
    """Gives ids in the type of the base's where the live ones fit in, all ones still meaning none, else in 64 bits."""
    if base.dtype == np.uint64:
        return base, live
    if int(live.max(initial=0)) < _LARGEST[base.itemsize]:
        return base, live.astype(base.dtype)
    return widen(base), live


class _Sorted:
    """Sorts all rows again. What its methods give is said at those of `_Inserted`."""

    def __init__(self, base: UserColumns, live: LiveRows) -> None:
        num_base, num_rows = base.num_behaviors, base.num_behaviors + len(live)
        # The rank stands for time and arrival; live rows arrived after all base rows.
        arrival = np.concatenate((base.rank, np.arange(num_base, num_rows)))
        time = np.concatenate((base.timestamp_ms, live.timestamp_ms))
        stream = np.concatenate((stream_of_rows(base), live.stream))
        node = np.concatenate((base.node, live.node))
        rank = _inverse(np.lexsort((arrival, time)))
        self._rows = np.lexsort((rank, node, stream))
        self._rank = rank[self._rows]

    def weave(self, base: AnyArray, live: AnyArray) -> AnyArray:
        woven: AnyArray = np.concatenate((base, live))[self._rows]
        return woven

    def rank_and_order(self) -> tuple[Unsigned, Unsigned]:
        dtype = _row_type(len(self._rank))
        return self._rank.astype(dtype), _inverse(self._rank).astype(dtype)


class _Inserted:
    """Copies the base rows in slices, with the live rows between them.

    Plain lists and bisection: for a few rows each call of numpy costs more than all of the work.
    """

    def __init__(self, base: UserColumns, live: LiveRows) -> None:
        self._base = base
        stream, node, time = live.stream.tolist(), live.node.tolist(), live.timestamp_ms.tolist()
        # Sorting is stable: rows of one stream and node stay in time order, rows of one time in the order of arrival.
        by_time = sorted(range(len(time)), key=time.__getitem__)
        record = sorted(by_time, key=lambda row: (stream[row], node[row]))
        places = _row_insertions(base, [(stream[row], node[row], time[row]) for row in record])
        self._record = np.array(record, np.intp)
        self._rows = _Gaps(places, base.num_behaviors)
        self._times = _Gaps(time_insertions(base, [time[row] for row in by_time]), base.num_behaviors)
        self._live_rank = np.empty(len(by_time), np.intp)
        self._live_rank[by_time] = self._times.at

    def weave(self, base: AnyArray, live: AnyArray) -> AnyArray:
        """Gives a column of all rows from two of one type, new."""
        return self._rows.fill(base, live[self._record])

    def rank_and_order(self) -> tuple[Unsigned, Unsigned]:
        """Gives `UserColumns.rank` and `order` of all rows."""
        dtype = _row_type(self._rows.num_rows)
        rank = self._base.rank.astype(dtype, copy=False)
        if not self._times.are_at_end:
            rank = self._times.old_positions(dtype)[rank.astype(np.intp)]
        rank = self.weave(rank, self._live_rank)
        order = np.empty(len(rank), dtype)
        order[rank.astype(np.intp)] = np.arange(len(rank), dtype=dtype)
        return rank, order


class _Gaps:
    """Insertions into a column of N values: the k-th new value goes before the value at `before[k]`.

    Example, N = 5, before 2, 2, 4::

        old   0  1        2  3     4
        new         a  b        c
        at          2  3        6
    """

    def __init__(self, before: list[int], num_old: int) -> None:
        self.at = np.array([old + shift for shift, old in enumerate(before)], np.intp)
        self.num_rows = num_old + len(before)
        self.are_at_end = not before or before[0] == num_old
        bounds = enumerate(pairwise([0, *before, num_old]))
        self._slices = [
            (slice(start, stop), slice(start + shift, stop + shift)) for shift, (start, stop) in bounds if start < stop
        ]

    def fill(self, old: AnyArray, new: AnyArray) -> AnyArray:
        """Gives old and new values, in one new array of the old ones' type."""
        out: AnyArray = np.empty(self.num_rows, old.dtype)
        # Slices of memoryviews are assigned in a third of the time that arrays take.
        source, target = old.data, out.data
        for start, shifted in self._slices:
            target[shifted] = source[start]
        out[self.at] = new
        return out

    def old_positions(self, dtype: np.dtype[Any]) -> AnyArray:
        """Gives the new position of each old value, (N,)."""
        out: AnyArray = np.empty(self.num_rows - len(self.at), dtype)
        source, target = np.arange(self.num_rows, dtype=dtype).data, out.data
        for start, shifted in self._slices:
            target[start] = source[shifted]
        return out


def _row_insertions(base: UserColumns, live: list[tuple[int, int, int]]) -> list[int]:
    """Gives the base row before which each live row (stream, node, time) is inserted; in the order of the record."""
    streams = [s.domain << 8 | s.action for s in base.sections]
    node, time = base.node.data, base.timestamp_ms.data
    places = []
    for stream, number, moment in live:
        at = bisect_left(streams, stream)
        if at == len(streams):
            places.append(base.num_behaviors)
        elif streams[at] != stream:
            places.append(base.sections[at].start)
        else:
            section = base.sections[at]
            place = bisect_left(node, number, section.start, section.stop)
            if place < section.stop and node[place] == number:
                last = bisect_right(node, number, place, section.stop)
                place = bisect_right(time, moment, place, last)
            places.append(place)
    return places


def time_insertions(base: UserColumns, moments: list[int]) -> list[int]:
    """Gives the position in the base's time order before which each live row is inserted; in time order."""
    order, time = base.order.data, base.timestamp_ms.data
    newest = time[order[-1]] if base.num_behaviors else -1
    return [
        base.num_behaviors if moment >= newest else bisect_right(order, moment, key=time.__getitem__)
        for moment in moments
    ]


def _sections(base: Sequence[Section], live: U16) -> tuple[Section, ...]:
    counts = {s.domain << 8 | s.action: s.stop - s.start for s in base}
    for stream in live.tolist():
        counts[stream] = counts.get(stream, 0) + 1
    sections = []
    start = 0
    for stream, count in sorted(counts.items()):
        sections.append(Section(domain=stream >> 8, action=stream & 255, start=start, stop=start + count))
        start += count
    return tuple(sections)


def _row_type(num_rows: int) -> np.dtype[Any]:
    return np.dtype(np.uint16) if num_rows <= 1 << 16 else np.dtype(np.uint32)


def _inverse(permutation: I64) -> I64:
    inverse = np.empty(len(permutation), np.int64)
    inverse[permutation] = np.arange(len(permutation))
    return inverse
