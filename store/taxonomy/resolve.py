"""Resolves events to nodes of the taxonomy: the item, else the category in its domain's tree, else unmapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.events import STREAMS_PER_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.taxonomy.taxonomy import Taxonomy
    from store.types import U16, U32, U64

_DENSE_FACTOR = 8
_DENSE_LIMIT = 1 << 24


class NodeResolver:
    """Gives the nodes of events of one taxonomy and one table of domain codes. Thread-safe."""

    def __init__(self, taxonomy: Taxonomy, domains: Sequence[str]) -> None:
        """Prepares the lookup.

        Args:
            taxonomy: The numbered tree.
            domains: Name of each domain code.
        """
        self._taxonomy = taxonomy
        self._domains = tuple(domains)
        self._dense = _dense_table(taxonomy)

    def nodes(self, item: U64, category: U64, stream: U16) -> U32:
        """Gives node numbers, `Taxonomy.unmapped` where neither item nor category is known. Each (N,)."""
        node = self._item_nodes(item)
        unknown = np.flatnonzero(node == self._taxonomy.unmapped)
        if len(unknown):
            domain = stream[unknown] // STREAMS_PER_DOMAIN
            for code in np.unique(domain).tolist():
                rows = unknown[domain == code]
                node[rows] = self._taxonomy.category_node(category[rows], self._domains[code])
        return node

    def _item_nodes(self, item: U64) -> U32:
        if self._dense is None:
            return self._taxonomy.item_node(item)
        # One gather instead of a binary search: ids that a database numbered are dense.
        return self._dense[np.minimum(item, np.uint64(len(self._dense) - 1)).view(np.int64)]


def _dense_table(taxonomy: Taxonomy) -> U32 | None:
    """Gives the node of every item id up to one past the largest, None where that table would be mostly holes."""
    ids = taxonomy.item_ids
    if not len(ids) or int(ids[-1]) > min(_DENSE_FACTOR * len(ids) + 1024, _DENSE_LIMIT):
        return None
    table = np.full(int(ids[-1]) + 2, taxonomy.unmapped, np.uint32)
    table[ids.astype(np.int64)] = taxonomy.item_nodes
    return table
