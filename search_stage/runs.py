"""One user's rows grouped into runs: what every search over a history starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from store.types import I64, U32, UserColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRuns:
    """Runs of equal (section, node) among a user's rows; the rows of a run are consecutive and in time order.

    Example, two sections of rows::

        row            0  1  2  3  4  5 | 6  7
        node           4  4  4  7  9  9 | 4  8
        run            0  0  0  1  2  2 | 3  4          node [4 7 9 4 8]   start [0 3 4 6 7 8]
        section_start  [0 3 5]                          in runs
    """

    columns: UserColumns
    node: U32
    """Node of each run, ascending within a section. (R,)"""
    start: I64
    """First row of each run, and the number of rows. (R + 1,)"""
    length: I64
    """Rows of each run. (R,)"""
    section: I64
    """Section of each run. (R,)"""
    section_start: I64
    """First run of each section, and the number of runs. (S + 1,)"""
    domains: I64
    """Distinct domain codes of the sections, ascending. (D,)"""
    section_domain: I64
    """Position in `domains` of each section's domain. (S,)"""

    def __len__(self) -> int:
        return len(self.node)

    @property
    def newest_row(self) -> I64:
        """The newest row of each run, (R,)."""
        return self.start[1:] - 1

    @staticmethod
    def of(columns: UserColumns) -> NodeRuns:
        """Groups a user's rows. Cost: O(N)."""
        num_rows = columns.num_behaviors
        first = np.ones(num_rows, np.bool_)
        np.not_equal(columns.node[1:], columns.node[:-1], out=first[1:])
        row_starts = np.array([s.start for s in columns.sections], np.int64)
        first[row_starts] = True
        starts = np.flatnonzero(first)
        section_start = np.append(np.searchsorted(starts, row_starts), len(starts))
        domains, section_domain = np.unique(
            np.array([s.domain for s in columns.sections], np.int64), return_inverse=True
        )
        start = np.append(starts, num_rows)
        return NodeRuns(
            columns=columns,
            node=columns.node[starts],
            start=start,
            length=start[1:] - starts,
            section=np.repeat(np.arange(len(row_starts)), section_start[1:] - section_start[:-1]),
            section_start=section_start,
            domains=domains,
            section_domain=section_domain,
        )
