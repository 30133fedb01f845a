"""Joins candidates with a user's history level by level: the common ground of hard search and match statistics.

Level 0 of a candidate is a set of nodes: its own item and the products it covers. Level l >= 1 is the subtree of its
l-th ancestor category, which pre-order makes one interval of nodes, so two binary searches per section find its rows.
Intervals are kept once however many candidates share them; as those of one depth are disjoint, all of them together
hold at most depth x N rows, whatever the number of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.ragged import expand_ranges

if TYPE_CHECKING:
    from search_stage.runs import NodeRuns
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I64, U32


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedCandidates:
    """Candidates as nodes of one store generation's taxonomy."""

    item_node: U32
    """Node of the ad; `Taxonomy.unmapped` = unknown. (C,)"""
    ancestors: U32
    """Column l >= 1: the l-th ancestor category, 1 = the category it is searched under; column 0 is not used.
    `Taxonomy.unmapped` beyond the top. (C, L)"""
    cover_nodes: U32
    """Nodes of the covered products, one list after another; duplicates and unknown ones may occur. (M,)"""
    cover_offsets: I64
    """Where each list starts, and the end; a candidate may have two, list j is of candidate j % C. (C + 1,) or
    (2 C + 1,)"""

    def __len__(self) -> int:
        return len(self.item_node)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelMatches:
    """Which runs of a history match which candidate at which level."""

    runs: NodeRuns
    num_candidates: int
    own_candidate: I64
    """Level 0: pairs of a candidate and a run of it, candidates ascending. (P,)"""
    own_run: I64
    """(P,)"""
    category: I64
    """Row of `intervals` for each candidate: candidates of one category share it. (C,)"""
    intervals: I64
    """Interval of each distinct category at each level; column 0 is not used. (K, L)"""
    interval_node: U32
    """First node of each interval; `Taxonomy.unmapped` = the empty interval. (A,)"""
    interval_end: U32
    """End of each interval, exclusive. (A,)"""
    low: I64
    """First run of each interval in each section. (A, S)"""
    high: I64
    """End run of each interval in each section, exclusive. (A, S)"""


def match_levels(candidates: ResolvedCandidates, runs: NodeRuns, taxonomy: Taxonomy) -> LevelMatches:
    """Finds the matching runs of every candidate at every level.

    Cost: O(R + M + (P + A S) log R) for R runs, M covered products, P level-0 matches, A distinct intervals and S
    sections. Mutates nothing.
    """
    own_candidate, own_node = _own_nodes(candidates, runs, taxonomy.unmapped)
    own_low, own_high = _bounds(runs, own_node, own_node + np.uint32(1))
    pair, section = np.nonzero(own_high > own_low)
    _, first, category = np.unique(candidates.ancestors[:, 1], return_index=True, return_inverse=True)
    nodes, intervals = np.unique(candidates.ancestors[first], return_inverse=True)
    last_node = max(taxonomy.unmapped - 1, 0)
    known = nodes < taxonomy.unmapped
    ends = np.where(known, taxonomy.end[np.minimum(nodes, last_node)], nodes) if last_node else nodes
    low, high = _bounds(runs, nodes, ends.astype(np.uint32))
    return LevelMatches(
        runs=runs,
        num_candidates=len(candidates),
        own_candidate=own_candidate[pair],
        own_run=own_low[pair, section],
        category=category,
        intervals=intervals.reshape(len(first), -1),
        interval_node=nodes,
        interval_end=ends,
        low=low,
        high=high,
    )


def _own_nodes(candidates: ResolvedCandidates, runs: NodeRuns, unmapped: int) -> tuple[I64, U32]:
    """Gives the distinct pairs (candidate, node) where the node is the candidate's own and the user has rows of it."""
    seen = np.zeros(unmapped + 1, np.bool_)
    seen[runs.node] = True
    seen[unmapped] = False
    own = np.flatnonzero(seen[candidates.item_node])
    covered = np.flatnonzero(seen[candidates.cover_nodes])
    owner = (np.searchsorted(candidates.cover_offsets, covered, side="right") - 1) % len(candidates)
    stride = unmapped + 1
    pairs = np.unique(
        np.concatenate(
            (
                own * stride + candidates.item_node[own].astype(np.int64),
                owner * stride + candidates.cover_nodes[covered].astype(np.int64),
            )
        )
    )
    candidate, node = np.divmod(pairs, stride)
    return candidate, node.astype(np.uint32)


def _bounds(runs: NodeRuns, nodes: U32, ends: U32) -> tuple[I64, I64]:
    """Gives the run range of each node interval in each section, two arrays (len(nodes), S)."""
    num_sections = len(runs.section_start) - 1
    low = np.empty((len(nodes), num_sections), np.int64)
    high = np.empty((len(nodes), num_sections), np.int64)
    for section in range(num_sections):
        start, stop = runs.section_start[section : section + 2]
        column = runs.node[start:stop]
        low[:, section] = start + np.searchsorted(column, nodes)
        high[:, section] = start + np.searchsorted(column, ends)
    return low, high


def expand_runs(runs: NodeRuns, which: I64) -> tuple[I64, I64]:
    """Gives the rows of some runs: the position in `which` each row is of, and the rows."""
    return expand_ranges(runs.start[which], runs.length[which])
