"""Base and delta rows of one user as one: the same columns as if a build had merged them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from store.rows import narrow, narrow_to, widen
from store.types import NO_ID, Section, UserColumns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.types import I64, U16, U32, U64, AnyArray, Unsigned

_MANY = 16
"""One live row in so many base rows: from there on it is cheaper to sort all of them again."""
_LARGEST = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF, 8: NO_ID}
"""Largest value of an unsigned type, by bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRows:
    """A user's delta rows in the codes and node numbers of a generation, in the order of their sequence numbers."""

    stream: U16
    """Domain code * 256 + action code. (N,)"""
    node: U32
    timestamp_ms: I64
    item: U64
    scene: U16

    def __len__(self) -> int:
        return len(self.node)


def merge_columns(base: UserColumns, live: LiveRows) -> UserColumns:
    """Gives the base and the live rows of a user as one; see `Merge`."""
    return Merge(base, live).columns()


def live_only(live: LiveRows) -> UserColumns:
    """Gives the live rows of a user who has no others."""
    return Merge(UserColumns.empty(), live).columns()


class Merge:
    """Where a user's live rows go among the base rows.

    Rows are ordered as `UserColumns` says; of one time, base rows come first, then live rows in the order of their
    sequence numbers. With few live rows nothing is sorted: columns are copied in slices between the insertions.
    """

    def __init__(self, base: UserColumns, live: LiveRows) -> None:
        """Finds the places.

        Args:
            base: N rows; none is fine.
            live: K rows; none is fine.
        """
        self._base = base
        self._live = live
        # Live rows in the order of the record, and their places in time order.
        by_time = np.argsort(live.timestamp_ms, kind="stable")
        rank = _inverse(by_time)
        self._record = np.lexsort((rank, live.node, live.stream))
        self._places: _Places
        if len(live) * _MANY > base.num_behaviors:
            self._places = _Sorted(base, live, self._record)
        else:
            self._places = _Inserted(base, live, self._record, by_time)

    def columns(self) -> UserColumns:
        """Gives the rows of both; N + K of them, in new arrays."""
        base, live, places = self._base, self._live, self._places
        rank, order = places.rank_and_order()
        return UserColumns(
            sections=_sections(base.sections, live.stream),
            node=places.weave(base.node, live.node[self._record]),
            timestamp_ms=places.weave(base.timestamp_ms, live.timestamp_ms[self._record]),
            item=self._ids(base.item, live.item),
            scene=self._codes(base.scene, live.scene),
            rank=rank,
            order=order,
        )

    def _ids(self, base: Unsigned, live: U64) -> Unsigned:
        """Weaves ids, in the type of the base's where the live ones fit in, all ones still meaning none."""
        fresh = live[self._record]
        if base.dtype == np.uint64:
            return self._places.weave(base, fresh)
        if int(fresh.max(initial=0)) < _LARGEST[base.itemsize]:
            return self._places.weave(base, fresh.astype(base.dtype))
        fitting = narrow(fresh)
        if fitting.itemsize > base.itemsize:
            return self._places.weave(narrow_to(widen(base), fitting.dtype), fitting)
        return self._places.weave(base, narrow_to(fresh, base.dtype))

    def _codes(self, base: Unsigned, live: U16) -> Unsigned:
        """Weaves codes, in the type of the base's where the live ones fit in."""
        dtype = base.dtype if int(live.max(initial=0)) <= _LARGEST[base.itemsize] else live.dtype
        return self._places.weave(base.astype(dtype, copy=False), live[self._record].astype(dtype))


class _Places(Protocol):
    """How to put live rows among base rows."""

    def weave(self, base: AnyArray, live: AnyArray) -> AnyArray:
        """Gives a column of all rows from two of one type; `live` in the order of the record."""
        ...

    def rank_and_order(self) -> tuple[Unsigned, Unsigned]:
        """Gives `UserColumns.rank` and `order` of all rows."""
        ...


class _Sorted:
    """Sorts all rows again."""

    def __init__(self, base: UserColumns, live: LiveRows, record: I64) -> None:
        num_base = base.num_behaviors
        # The rank stands for time and arrival; live rows arrived after all base rows.
        arrival = np.concatenate((base.rank.astype(np.int64), num_base + record))
        time = np.concatenate((base.timestamp_ms, live.timestamp_ms[record]))
        streams = np.array([s.domain << 8 | s.action for s in base.sections], np.uint16)
        stream = np.concatenate((np.repeat(streams, [s.stop - s.start for s in base.sections]), live.stream[record]))
        node = np.concatenate((base.node, live.node[record]))
        rank = _inverse(np.lexsort((arrival, time)))
        self._rows = np.lexsort((rank, node, stream))
        self._rank = rank[self._rows].astype(_row_type(len(rank)))

    def weave(self, base: AnyArray, live: AnyArray) -> AnyArray:
        woven: AnyArray = np.concatenate((base, live))[self._rows]
        return woven

    def rank_and_order(self) -> tuple[Unsigned, Unsigned]:
        return self._rank, _inverse(self._rank.astype(np.int64)).astype(self._rank.dtype)


class _Inserted:
    """Copies the base rows in slices, with the live rows between them."""

    def __init__(self, base: UserColumns, live: LiveRows, record: I64, by_time: I64) -> None:
        self._base = base
        self._rows = _Gaps(_row_places(base, live, record), base.num_behaviors)
        self._times = _Gaps(_time_places(base, live, by_time), base.num_behaviors)
        self._time_of_record = _inverse(by_time)[record]

    def weave(self, base: AnyArray, live: AnyArray) -> AnyArray:
        return self._rows.fill(base, live)

    def rank_and_order(self) -> tuple[Unsigned, Unsigned]:
        rows, times, base = self._rows, self._times, self._base
        dtype = _row_type(rows.num_rows)
        numbers = np.arange(rows.num_rows, dtype=dtype)
        rank = base.rank.astype(dtype, copy=False)
        if not times.all_at_end:
            rank = times.leave_out(numbers)[rank.astype(np.intp)]
        order = rows.leave_out(numbers)[base.order.astype(np.intp)]
        live_order = np.empty(len(self._time_of_record), dtype)
        live_order[self._time_of_record] = rows.at
        return rows.fill(rank, times.at[self._time_of_record]), times.fill(order, live_order)


class _Gaps:
    """Insertions into a column of N values: `places[k]` says before which value the k-th new one goes.

    Example, N = 5, places 2, 2, 4::

        old   0  1        2  3     4
        new         a  b        c
        at          2  3        6
    """

    def __init__(self, places: Sequence[int], num_old: int) -> None:
        self.at = np.array(places, np.intp) + np.arange(len(places))
        self.num_rows = num_old + len(places)
        self.all_at_end = places[0] == num_old if places else True
        bounds = enumerate(pairwise([0, *places, num_old]))
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

    def leave_out(self, values: AnyArray) -> AnyArray:
        """Gives those of N + K values that stand at places of old ones."""
        out: AnyArray = np.empty(self.num_rows - len(self.at), values.dtype)
        source, target = values.data, out.data
        for start, shifted in self._slices:
            target[start] = source[shifted]
        return out


def _row_places(base: UserColumns, live: LiveRows, record: I64) -> list[int]:
    """Gives before which base row each live row goes, in the order of the record."""
    streams = [s.domain << 8 | s.action for s in base.sections]
    node, time = base.node.data, base.timestamp_ms.data
    places = []
    for row in record.tolist():
        stream = int(live.stream[row])
        at = bisect_left(streams, stream)
        if at == len(streams):
            places.append(base.num_behaviors)
        elif streams[at] != stream:
            places.append(base.sections[at].start)
        else:
            section, number = base.sections[at], int(live.node[row])
            first = bisect_left(node, number, section.start, section.stop)
            last = bisect_right(node, number, first, section.stop)
            places.append(bisect_right(time, int(live.timestamp_ms[row]), first, last))
    return places


def _time_places(base: UserColumns, live: LiveRows, by_time: I64) -> list[int]:
    """Gives before which base row of the time order each live row goes, in time order."""
    order, time = base.order.data, base.timestamp_ms.data
    newest = time[order[-1]] if base.num_behaviors else -1
    return [
        base.num_behaviors if moment >= newest else bisect_right(order, moment, key=time.__getitem__)
        for moment in live.timestamp_ms[by_time].tolist()
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


def _row_type(num_rows: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    return np.dtype(np.uint16) if num_rows <= 1 << 16 else np.dtype(np.uint32)


def _inverse(permutation: I64) -> I64:
    inverse = np.empty(len(permutation), np.int64)
    inverse[permutation] = np.arange(len(permutation))
    return inverse
