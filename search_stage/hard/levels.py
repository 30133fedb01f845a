"""Joins candidates with a user's history level by level: the common ground of hard search and match statistics.

Level 0 of a candidate is a set of nodes: its own item and the products it covers. Level l >= 1 is the subtrees of the
l-th ancestors of its categories, usually one, each an interval of nodes in pre-order, so two binary searches per
section find its rows. Intervals are kept once however many candidates share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.hard.level_kernels import CandidateNodes, HistoryRows, Intervals, OwnRows, find_rows

if TYPE_CHECKING:
    from search_stage.history import History
    from search_stage.resolve import ResolvedCandidates
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I64, U32

_FEW_NODES = 4096
"""Own nodes are looked up one by one; of more, only those that occur in the history."""


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

    Cost: O(C + X + (M + A) S log N) for X categories, M own nodes, A distinct intervals, S sections. Mutates nothing.
    """
    own_node, own_offsets = _occurring(candidates, history, taxonomy.unmapped)
    rows = HistoryRows(history.node, history.rank, history.cut, history.section_start)
    nodes = CandidateNodes(candidates.category_node, candidates.category_offsets, own_node, own_offsets)
    intervals, own = find_rows(rows, nodes, taxonomy.parent, taxonomy.end, num_levels)
    return LevelMatches(history=history, intervals=intervals, own=own)


def _occurring(candidates: ResolvedCandidates, history: History, unmapped: int) -> tuple[U32, I64]:
    if len(candidates.own_node) <= _FEW_NODES:
        return candidates.own_node, candidates.own_offsets
    seen = np.zeros(unmapped + 1, np.bool_)
    seen[history.node] = True
    kept = seen[candidates.own_node]
    before = np.concatenate(([0], np.cumsum(kept)))
    return candidates.own_node[kept], before[candidates.own_offsets]
