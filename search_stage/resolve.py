"""Candidates to taxonomy nodes, for one store generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.levels import ResolvedCandidates
from store.types import NO_ID

if TYPE_CHECKING:
    from store.generations.tables import CoverTable
    from store.reading.behavior_store import Snapshot
    from store.reading.retrieval import Candidates
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I64, U32


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

    def resolve(self, candidates: Candidates, num_levels: int) -> ResolvedCandidates:
        """Gives the nodes of the candidates and of what they cover.

        A category given by the request replaces the one the item hangs under, and a list of products given by the
        request the one of the items table. What is unknown is unmapped.

        Args:
            candidates: The candidates as ids. (C,)
            num_levels: Number of ancestor levels, level 0 included.
        """
        item_node = self.taxonomy.item_node(candidates.item)
        lowest = np.where(
            candidates.category == np.uint64(NO_ID), item_node, self.taxonomy.category_node(candidates.category)
        )
        nodes, offsets = self._covered(candidates)
        return ResolvedCandidates(
            item_node=item_node,
            ancestors=self.taxonomy.ancestors(lowest, num_levels),
            cover_nodes=nodes,
            cover_offsets=offsets,
        )

    def _covered(self, candidates: Candidates) -> tuple[U32, I64]:
        """Gives the lists of the items table, then those of the request if it has any: nodes and offsets."""
        starts, lengths = self._stored_lists(candidates)
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        nodes = self.cover_nodes[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)]
        if not len(candidates.covers):
            return nodes, offsets
        given = self.taxonomy.item_node(candidates.covers)
        return np.concatenate((nodes, given)), np.concatenate((offsets, offsets[-1] + candidates.covers_offsets[1:]))

    def _stored_lists(self, candidates: Candidates) -> tuple[I64, I64]:
        """Gives where the list of the items table starts for each candidate, and its length; 0 where not wanted."""
        ids = self.covers.ids
        if not len(ids):
            return np.zeros(len(candidates), np.int64), np.zeros(len(candidates), np.int64)
        at = np.minimum(np.searchsorted(ids, candidates.item), len(ids) - 1)
        wanted = (ids[at] == candidates.item) & (np.diff(candidates.covers_offsets) == 0)
        starts = self.covers.offsets[at]
        return starts, np.where(wanted, self.covers.offsets[at + 1] - starts, 0)
