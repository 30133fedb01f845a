"""Candidates to taxonomy nodes, for one store generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.lists import spans
from store.types import NO_ID

if TYPE_CHECKING:
    from store.base.tables import CoverTable
    from store.reading.snapshot import Snapshot
    from store.retrieval import Candidates
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I64, U32


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
class CandidateResolver:
    """What resolving candidates needs of a generation, prepared once: covered products are kept as nodes.

    Immutable and thread-safe.
    """

    taxonomy: Taxonomy
    covers: CoverTable
    cover_nodes: U32
    """Node of each of `covers.values`."""

    @staticmethod
    def of(snapshot: Snapshot) -> CandidateResolver:
        """Prepares a generation. Cost: one look-up per covered product of the items table."""
        return CandidateResolver(
            taxonomy=snapshot.taxonomy,
            covers=snapshot.covers,
            cover_nodes=snapshot.taxonomy.item_node(snapshot.covers.values),
        )

    def resolve(self, candidates: Candidates) -> ResolvedCandidates:
        """Gives the nodes of the candidates, of their categories and of what they cover.

        Categories given by the request replace the one the item hangs under, and a list of products given by the
        request the one of the items table. What is unknown is left out of the categories.

        Args:
            candidates: The candidates as ids. (C,)
        """
        taxonomy, count = self.taxonomy, len(candidates)
        item_node = taxonomy.item_node(candidates.item)
        main = _category_of(taxonomy, item_node)
        given = candidates.category != np.uint64(NO_ID)
        if given.any():
            main = np.where(given, taxonomy.category_node(candidates.category), main).astype(np.uint32)
        known = np.flatnonzero(main < taxonomy.unmapped)
        category_node, owner = main[known], known
        if len(candidates.more_categories):
            more = taxonomy.category_node(candidates.more_categories)
            owner_of = np.repeat(np.arange(count), np.diff(candidates.more_offsets))
            kept = np.flatnonzero(more < taxonomy.unmapped)
            category_node, owner = _distinct_in_lists(
                np.concatenate((category_node, more[kept])), np.concatenate((owner, owner_of[kept]))
            )
        own_node, own_owner = item_node, np.arange(count)
        if len(self.covers.ids) or len(candidates.covers):
            nodes, owner_of = self._covered(candidates)
            own_node, own_owner = _distinct_in_lists(
                np.concatenate((own_node, nodes)), np.concatenate((own_owner, owner_of))
            )
        return ResolvedCandidates(
            item_node=item_node,
            main_category=main,
            category_node=category_node,
            category_offsets=np.searchsorted(owner, np.arange(count + 1)),
            own_node=own_node,
            own_offsets=np.searchsorted(own_owner, np.arange(count + 1)),
        )

    def _covered(self, candidates: Candidates) -> tuple[U32, I64]:
        """Gives the nodes of the covered products, of the request or else of the items table, and their candidates."""
        lengths = np.diff(candidates.covers_offsets)
        nodes = self.taxonomy.item_node(candidates.covers)
        owner_of = np.repeat(np.arange(len(candidates)), lengths)
        ids = self.covers.ids
        if not len(ids):
            return nodes, owner_of
        at = np.minimum(np.searchsorted(ids, candidates.item), len(ids) - 1)
        wanted = np.flatnonzero((ids[at] == candidates.item) & (lengths == 0))
        starts = self.covers.offsets[at[wanted]]
        stored = self.covers.offsets[at[wanted] + 1] - starts
        rows, _ = spans(starts, stored)
        return np.concatenate((nodes, self.cover_nodes[rows])), np.concatenate((owner_of, np.repeat(wanted, stored)))


def _category_of(taxonomy: Taxonomy, item_node: U32) -> U32:
    """Gives the category that each item hangs under, `unmapped` = none. (C,)."""
    if not taxonomy.num_nodes:
        return item_node
    parent = taxonomy.parent[np.minimum(item_node, taxonomy.num_nodes - 1)]
    return np.where((item_node < taxonomy.unmapped) & (parent >= 0), parent, taxonomy.unmapped).astype(np.uint32)


def _distinct_in_lists(nodes: U32, owner: I64) -> tuple[U32, I64]:
    """Drops what occurs twice in one list; gives the nodes and their owners, owners ascending, first ones first."""
    pair = owner << 32 | nodes
    _, first = np.unique(pair, return_index=True)
    first = first[np.argsort(owner[first] * len(nodes) + first)]
    return nodes[first], owner[first]
