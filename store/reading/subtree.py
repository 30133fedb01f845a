"""A user's behaviors under one node: ranges of rows, and the rows behind them only when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.records.codec import decode_nodes, decode_user

if TYPE_CHECKING:
    from store.records.codec import Stream
    from store.types import I64, UserColumns

    Range = tuple[int, int, int]
    """(domain code * 256 + action code, first row, end row)."""


class OpenUser:
    """One user's nodes by stream, ready to be searched, and the columns behind them; not thread-safe."""

    __slots__ = ("_columns", "_record", "streams", "user")

    def __init__(
        self, user: int, streams: list[Stream], columns: UserColumns | None, record: memoryview | None
    ) -> None:
        """Use `of_record` or `of_columns`."""
        self.user = user
        self.streams = streams
        self._columns = columns
        self._record = record

    @staticmethod
    def of_record(user: int, record: memoryview) -> OpenUser:
        """Opens a record; its columns are decoded when they are asked for.

        Raises:
            CorruptRecordError: Its header is damaged.
        """
        return OpenUser(user, decode_nodes(record), None, record)

    @staticmethod
    def of_columns(user: int, columns: UserColumns) -> OpenUser:
        """Takes columns as they are."""
        nodes = [(s.domain << 8 | s.action, s.start, columns.node[s.start : s.stop]) for s in columns.sections]
        return OpenUser(user, nodes, columns, None)

    @property
    def columns(self) -> UserColumns:
        """All behaviors of the user."""
        if self._columns is None:
            assert self._record is not None
            self._columns = decode_user(self._record)
        return self._columns

    def subtree(self, first_node: int, end_node: int) -> Subtree:
        """Gives where the rows of the nodes `[first_node, end_node)` stand, in each stream that has any.

        Cost: two binary searches a stream, whatever the number of rows.
        """
        bounds = np.array((first_node, end_node), np.uint32)
        ranges = []
        for stream, start, node in self.streams:
            low, high = node.searchsorted(bounds).tolist()
            if low < high:
                ranges.append((stream, start + low, start + high))
        return Subtree(self, ranges)


class Subtree:
    """Ranges of rows of one user's columns, one per stream that has any; not thread-safe.

    Within a range rows ascend by (node, time).
    """

    __slots__ = ("_user", "ranges")

    def __init__(self, user: OpenUser, ranges: list[Range]) -> None:
        self._user = user
        self.ranges = ranges

    def __len__(self) -> int:
        return sum(stop - start for _, start, stop in self.ranges)

    @property
    def columns(self) -> UserColumns:
        """All behaviors of the user, of which the ranges are rows."""
        return self._user.columns

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
