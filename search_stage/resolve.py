"""Candidates to taxonomy nodes, for one store generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.resolve_kernels import categories_of, find_ids, list_known, nodes_of
from store.compiled import read_only
from store.lists import spans
from store.types import NO_ID

if TYPE_CHECKING:
    from store.base.tables import CoverTable
    from store.reading.snapshot import Snapshot
    from store.retrieval import Candidates
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I64, U32, U64, Bool

_PRODUCTS_AT_ONCE = 1 << 20
"""Covered products that are looked up and sorted together when a generation is prepared: some 40 MiB meanwhile."""


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
    product: U32
    """Nodes of covered products, read-only. Those of a candidate are known, ascending, distinct, and none is the ad
    itself; what belongs to no candidate may stand between them. (P,)"""
    product_start: I64
    """Where each candidate's products start. (C,)"""
    product_stop: I64
    """And end. (C,)"""

    def __len__(self) -> int:
        return len(self.item_node)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveredProducts:
    """What the ads of a generation cover, as nodes; sorted once, when the generation is opened (ADR 0017).

    Memory: 4 bytes for each product an ad covers, and 8 for each ad that covers any.
    """

    ad: U64
    """Ads that cover something, ascending, distinct. (K,)"""
    offsets: I64
    """Where each ad's products start, and the end. (K + 1,)"""
    node: U32
    """Those of an ad as `ResolvedCandidates.product` has them. Read-only."""

    @staticmethod
    def of(covers: CoverTable, taxonomy: Taxonomy) -> CoveredProducts:
        """Prepares a generation. Cost: a look-up and a sort of all covered products, some part of them at a time."""
        nodes, counts = [np.empty(0, np.uint32)], [np.zeros(1, np.int64)]
        first, own = 0, _item_nodes(taxonomy, covers.ids)
        while first < len(covers.ids):
            fitting = np.searchsorted(covers.offsets, covers.offsets[first] + _PRODUCTS_AT_ONCE, "right")
            last = max(first + 1, int(fitting) - 1)
            values = covers.values[covers.offsets[first] : covers.offsets[last]]
            lengths = np.diff(covers.offsets[first : last + 1])
            node, count = _products_of(taxonomy, own[first:last], values, lengths)
            nodes.append(node)
            counts.append(count)
            first = last
        return CoveredProducts(
            ad=covers.ids, offsets=np.cumsum(np.concatenate(counts)), node=read_only(np.concatenate(nodes))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateResolver:
    """What resolving candidates needs of a generation, prepared once. Immutable and thread-safe."""

    taxonomy: Taxonomy
    covered: CoveredProducts

    @staticmethod
    def of(snapshot: Snapshot) -> CandidateResolver:
        """Prepares a generation; `CoveredProducts.of` says at what cost."""
        covered = CoveredProducts.of(snapshot.covers, snapshot.taxonomy)
        return CandidateResolver(taxonomy=snapshot.taxonomy, covered=covered)

    def resolve(self, candidates: Candidates) -> ResolvedCandidates:
        """Gives the nodes of the candidates, of their categories and of what they cover.

        Categories given by the request replace the one the item hangs under, and a list of products given by the
        request the one of the items table. What is unknown is left out of the categories.

        Args:
            candidates: The candidates as ids. (C,)
        """
        taxonomy = self.taxonomy
        item_node = _item_nodes(taxonomy, candidates.item)
        main = categories_of(item_node, read_only(taxonomy.parent))
        given = candidates.category != np.uint64(NO_ID)
        if given.any():
            main = np.where(given, taxonomy.category_node(candidates.category), main).astype(np.uint32)
        category_node, category_offsets = list_known(main, taxonomy.unmapped)
        if len(candidates.more_categories):
            category_node, category_offsets = _with_more(taxonomy, category_node, category_offsets, candidates)
        product, start, stop = self._products(candidates, item_node)
        return ResolvedCandidates(
            item_node=item_node,
            main_category=main,
            category_node=category_node,
            category_offsets=category_offsets,
            product=product,
            product_start=start,
            product_stop=stop,
        )

    def _products(self, candidates: Candidates, item_node: U32) -> tuple[U32, I64, I64]:
        """Gives what stands under `product`, `product_start` and `product_stop`.

        Those of the items table are not copied, unless the request gives products of some candidate, which are sorted.
        """
        covered, lengths = self.covered, np.diff(candidates.covers_offsets)
        at, is_stored = rows_of(covered.ad, candidates.item)
        start, stop = covered.offsets[at], covered.offsets[at + is_stored]
        if not len(candidates.covers):
            return covered.node, start, stop
        given, counts = _products_of(self.taxonomy, item_node, candidates.covers, lengths)
        stored, offsets = spans(start, stop - start)
        start, stop = len(given) + offsets[:-1], len(given) + offsets[1:]
        asked = np.flatnonzero(lengths)
        ends = np.cumsum(counts)
        start[asked], stop[asked] = (ends - counts)[asked], ends[asked]
        return read_only(np.concatenate((given, covered.node[stored]))), start, stop


def rows_of(ids: U64, wanted: U64) -> tuple[I64, Bool]:
    """Does what `store.files.arrays.find_sorted` does, faster where the table is not in the cache."""
    return find_ids(read_only(ids), _as_compiled_for(wanted))


def _item_nodes(taxonomy: Taxonomy, ids: U64) -> U32:
    nodes = read_only(taxonomy.item_nodes)
    return nodes_of(read_only(taxonomy.item_ids), nodes, _as_compiled_for(ids), taxonomy.unmapped)


def _as_compiled_for(ids: U64) -> U64:
    """Gives what a kernel can be called with: a caller's array may be strided or, out of a message, not aligned."""
    return read_only(ids.copy())


def _with_more(taxonomy: Taxonomy, main: U32, offsets: I64, candidates: Candidates) -> tuple[U32, I64]:
    """Adds the further categories of a request to lists of main ones; drops the unknown, and what is in a list twice.

    Returns:
        Nodes, one list after another, in the order they were given; where each list starts, and the end, (C + 1,).
    """
    count = len(candidates)
    more = taxonomy.category_node(candidates.more_categories)
    kept = np.flatnonzero(more < taxonomy.unmapped)
    node = np.concatenate((main, more[kept]))
    lengths = np.diff(offsets), np.diff(candidates.more_offsets)
    owner_of_main, owner_of_more = (np.repeat(np.arange(count), each) for each in lengths)
    owner = np.concatenate((owner_of_main, owner_of_more[kept]))
    _, first = np.unique(owner << 32 | node, return_index=True)
    first = first[np.argsort(owner[first] * len(node) + first)]
    return node[first], np.searchsorted(owner[first], np.arange(count + 1))


def _products_of(taxonomy: Taxonomy, own: U32, products: U64, lengths: I64) -> tuple[U32, I64]:
    """Gives lists of products as nodes: ascending, distinct, without unknown ones and without the list's own node.

    Args:
        taxonomy: Of the generation.
        own: A node of each list. (N,)
        products: Ids, one list after another. (M,)
        lengths: Of the lists. (N,)

    Returns:
        Nodes, one list after another; their number in each list, (N,).
    """
    node, list_of = _item_nodes(taxonomy, products), np.repeat(np.arange(len(lengths)), lengths)
    # One sort of single numbers takes a tenth of the time of one of pairs.
    pair = (list_of << 32 | node)[(node < taxonomy.unmapped) & (node != own[list_of])]
    pair.sort()
    is_new = np.ones(len(pair), np.bool_)
    np.not_equal(pair[1:], pair[:-1], out=is_new[1:])
    pair = pair[is_new]
    return pair.astype(np.uint32), np.bincount(pair >> 32, minlength=len(lengths))
