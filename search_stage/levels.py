"""Joins candidates with a user's history level by level: the common ground of hard search and match statistics.

Level 0 of a candidate is a set of nodes: its own item and the products it covers. Level l >= 1 is the subtrees of the
l-th ancestors of its categories, usually one, each an interval of nodes in pre-order, so two binary searches per
section find its rows. Intervals are kept once however many candidates share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.level_kernels import climb, find_intervals, find_own

if TYPE_CHECKING:
    from search_stage.history import History
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I64, U32

_FEW_NODES = 4096
"""Own nodes are looked up one by one; of more, only those that occur in the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedCandidates:
    """Candidates as nodes of one store generation's taxonomy."""

    item_node: U32
    """Node of the ad; `Taxonomy.unmapped` = unknown. (C,)"""
    category_node: U32
    """Nodes of the categories the ads are searched under, one list after another, the main one first; none is unknown,
    no list has one twice. (X,)"""
    main_category: U32
    """Node of each ad's main category; `Taxonomy.unmapped` = unknown. (C,)"""
    category_offsets: I64
    """Where each list starts, and the end. (C + 1,)"""
    own_node: U32
    """Nodes of the ads themselves and of the products they cover, one list after another, no list has one twice;
    unknown ones may occur. (M,)"""
    own_offsets: I64
    """Where each list starts, and the end. (C + 1,)"""

    def __len__(self) -> int:
        return len(self.item_node)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelMatches:
    """Which rows of a history match which candidate at which level."""

    history: History
    chain_start: I64
    """Where each candidate's chains start in `chain`, and the end. (C + 1,)"""
    category: I64
    """Number of the category that each chain climbs from. (X,)"""
    chain: I64
    """Interval of each chain at each level, -1 = beyond the top; column 0 is not used. (X, L)"""
    node: I64
    """First node of each interval. (A,)"""
    end: I64
    """End of each interval, exclusive. (A,)"""
    low: I64
    """First row of each interval in each section. (A, S)"""
    high: I64
    """End. (A, S)"""
    own_start: I64
    """Where each candidate's own rows start in the three below, and the end. (C + 1,)"""
    own_section: I64
    """Section of each range of rows, all of one node and before the cut. (P,)"""
    own_low: I64
    """(P,)"""
    own_high: I64
    """(P,)"""

    def __len__(self) -> int:
        return len(self.chain_start) - 1


def match_levels(candidates: ResolvedCandidates, history: History, taxonomy: Taxonomy, num_levels: int) -> LevelMatches:
    """Finds the matching rows of every candidate at every level.

    Cost: O(C + X + (M + A) S log N) for X categories, M own nodes, A distinct intervals, S sections. Mutates nothing.
    """
    category, chain, node, end = climb(candidates.category_node, taxonomy.parent, taxonomy.end, num_levels)
    low, high = find_intervals(history.node, history.section_start, node, end)
    own_node, own_offsets = _occurring(candidates, history, taxonomy.unmapped)
    own_start, own_section, own_low, own_high = find_own(
        history.node,
        history.rank,
        history.cut,
        history.section_start,
        own_node,
        own_offsets,
        candidates.category_offsets,
        chain,
        node,
        end,
        low,
        high,
        taxonomy.unmapped,
    )
    return LevelMatches(
        history=history,
        chain_start=candidates.category_offsets,
        category=category,
        chain=chain,
        node=node,
        end=end,
        low=low,
        high=high,
        own_start=own_start,
        own_section=own_section,
        own_low=own_low,
        own_high=own_high,
    )


def _occurring(candidates: ResolvedCandidates, history: History, unmapped: int) -> tuple[U32, I64]:
    if len(candidates.own_node) <= _FEW_NODES:
        return candidates.own_node, candidates.own_offsets
    seen = np.zeros(unmapped + 1, np.bool_)
    seen[history.node] = True
    kept = seen[candidates.own_node]
    before = np.concatenate(([0], np.cumsum(kept)))
    return candidates.own_node[kept], before[candidates.own_offsets]
