"""Joins candidates with a user's history level by level: the common ground of hard search and match statistics.

Level 0 of a candidate is a set of nodes: its own item and the products it covers. Level l >= 1 is the subtrees of the
l-th ancestors of its categories, usually one, each an interval of nodes in pre-order, so two binary searches per
section find its rows. Intervals are kept once however many candidates share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_stage.hard.level_kernels import CandidateNodes, HistoryRows, Intervals, OwnRows, find_rows

if TYPE_CHECKING:
    from search_stage.history import History
    from search_stage.resolve import ResolvedCandidates
    from store.taxonomy.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelMatches:
    """Which rows of a history match which candidate at which level."""

    history: History
    intervals: Intervals
    """Of level 1 and above."""
    own: OwnRows
    """Of level 0."""

    def __len__(self) -> int:
        return len(self.own.start) - 1


def match_levels(candidates: ResolvedCandidates, history: History, taxonomy: Taxonomy, num_levels: int) -> LevelMatches:
    """Finds the matching rows of every candidate at every level.

    Cost: O(C + X + M + (O + A) S log N) for X categories, M own nodes, O of them in the history where those are many,
    A distinct intervals, S sections. Mutates nothing.
    """
    rows = HistoryRows(history.node, history.rank, history.cut, history.section_start)
    nodes = CandidateNodes(
        candidates.category_node,
        candidates.category_offsets,
        candidates.item_node,
        candidates.product,
        candidates.product_start,
        candidates.product_stop,
    )
    found = find_rows(rows, nodes, taxonomy.parent, taxonomy.end, num_levels)
    num_intervals = len(Intervals._fields)
    return LevelMatches(
        history=history, intervals=Intervals(*found[:num_intervals]), own=OwnRows(*found[num_intervals:])
    )
