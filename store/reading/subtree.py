"""A user's behaviors under one node: ranges of rows, and the rows behind them only when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.events import STREAMS_PER_DOMAIN
from store.records.codec import decode_user

if TYPE_CHECKING:
    from store.types import I64, UserColumns

    Range = tuple[int, int, int]
    """(domain code * 256 + action code, first row, end row)."""


class Subtree:
    """Ranges of rows of one user's columns, one per stream that has any; not thread-safe.

    Within a range rows ascend by (node, time).
    """

    __slots__ = ("_columns", "_record", "ranges")

    def __init__(self, ranges: list[Range], columns: UserColumns | None, record: memoryview | None) -> None:
        """Use `of_record` or `of_columns`."""
        self.ranges = ranges
        self._columns = columns
        self._record = record

    @staticmethod
    def of_record(record: memoryview, ranges: list[Range]) -> Subtree:
        """Gives ranges over a record, which is decoded when it is needed."""
        return Subtree(ranges, None, record)

    @staticmethod
    def of_columns(columns: UserColumns, first_node: int, end_node: int) -> Subtree:
        """Gives the ranges of the nodes `[first_node, end_node)` of some columns."""
        ranges = []
        for section in columns.sections:
            node = columns.node[section.start : section.stop]
            low, high = np.searchsorted(node, [first_node, end_node]).tolist()
            if low < high:
                stream = section.domain * STREAMS_PER_DOMAIN + section.action
                ranges.append((stream, section.start + low, section.start + high))
        return Subtree(ranges, columns, None)

    def __len__(self) -> int:
        return sum(stop - start for _, start, stop in self.ranges)

    @property
    def columns(self) -> UserColumns:
        """All behaviors of the user, of which the ranges are rows."""
        if self._columns is None:
            assert self._record is not None
            self._columns = decode_user(self._record)
        return self._columns

    def rows(self, *, as_of_ms: int | None = None, limit: int | None = None) -> I64:
        """Gives rows of `columns` in time order, oldest first; a new array.

        Args:
            as_of_ms: Only behaviors strictly before this time; None = all.
            limit: Only the newest that many; None = all.
        """
        columns = self.columns
        rows = np.concatenate([np.empty(0, np.int64), *(np.arange(start, stop) for _, start, stop in self.ranges)])
        if as_of_ms is not None:
            rows = rows[columns.timestamp_ms[rows] < as_of_ms]
        rows = rows[np.argsort(columns.rank[rows])]
        return rows if limit is None else rows[max(len(rows) - limit, 0) :]
