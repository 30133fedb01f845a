"""One user's rows up to the as-of time, as kernels take them: nothing is copied, and nothing is read beyond the cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.compiled import read_only

if TYPE_CHECKING:
    from store.types import I64, U32, UserColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A user's rows and where the as-of time cuts them.

    Rows stand as `UserColumns` says. The behaviors that exist for a request are those at the first `cut` positions of
    the time order: rows with `rank < cut`. Rows of one node of one section stand in time order, so of those they are
    the first.
    """

    columns: UserColumns
    cut: int
    """Behaviors before the as-of time."""
    node: U32
    """(N,)"""
    timestamp_ms: I64
    """(N,)"""
    rank: U32
    """Position of each row in the time order. (N,)"""
    order: U32
    """Row at each position of the time order. (N,)"""
    section_start: I64
    """First row of each section, and the number of rows. (S + 1,)"""
    domains: tuple[int, ...]
    """Distinct domain codes of the sections, ascending. (D,)"""
    section_stream: I64
    """Domain and action code of each section. (S, 2)"""

    @staticmethod
    def before(columns: UserColumns, as_of_ms: int) -> History:
        """Cuts a user's rows at a time. Cost: O(log N), and a copy of two columns of up to 65,536 short numbers."""
        sections = columns.sections
        return History(
            columns=columns,
            cut=columns.num_before(as_of_ms),
            node=read_only(columns.node),
            timestamp_ms=read_only(columns.timestamp_ms),
            rank=read_only(columns.rank, np.uint32),
            order=read_only(columns.order, np.uint32),
            section_start=np.array([0, *(section.stop for section in sections)], np.int64),
            domains=tuple(sorted({section.domain for section in sections})),
            section_stream=np.array([section[:2] for section in sections], np.int64).reshape(len(sections), 2),
        )

    def rank_at(self, time_ms: int) -> int:
        """Gives the position in the time order of the first behavior at or after a time, the cut at most."""
        return min(self.columns.num_before(time_ms), self.cut)
