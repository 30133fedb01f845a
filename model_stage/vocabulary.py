"""From ids to embedding rows: the taxonomy's paths, and the values of categorical fields.

Every taxonomy node, category or item, has one row; its embedding is the sum of the rows on its path to the top. A new
leaf or item thus still has its parents' vectors, and an item seen rarely stays close to its category. Row 0 is "none":
its vector is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I32, I64, U64, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRows:
    """Known ids, ascending, and the row of each."""

    ids: U64
    rows: I64

    def __post_init__(self) -> None:
        assert self.ids.shape == self.rows.shape
        assert bool(np.all(self.ids[1:] > self.ids[:-1]))

    def lookup(self, ids: U64, otherwise: I64) -> I64:
        """Gives the row of each id, the value of `otherwise` where it is unknown. int64 (N,)."""
        if len(self.ids) == 0:
            return otherwise
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[at] == ids, self.rows[at], otherwise)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeVocabulary:
    """Rows of the taxonomy's nodes, and the path of each row to the top.

    For the tree  food > tea > green tea(item)::

        row  0 none   1 food   2 tea   3 green tea
        path 0 0 0    1 0 0    2 1 0   3 2 1
    """

    categories: IdRows
    items: IdRows
    path: I32
    """(V, P): the row itself, its parent, ...; 0 beyond the top."""

    def rows(self, items: U64, categories: U64) -> I64:
        """Gives the row of each item, its category's where the item is unknown, 0 where both are. int64 (N,)."""
        return self.items.lookup(items, self.categories.lookup(categories, np.zeros(len(items), np.int64)))

    @staticmethod
    def from_taxonomy(taxonomy: Taxonomy, known_items: Bool) -> TreeVocabulary:
        """Builds the vocabulary of a store generation's taxonomy: every category, and some of the items.

        Args:
            taxonomy: The numbered tree.
            known_items: Which nodes are worth a row if they are items. bool (num_nodes,).
        """
        is_item = np.asarray(taxonomy.is_item, dtype=bool)
        kept = ~is_item | known_items
        row = np.where(kept, np.cumsum(kept), 0)
        above = np.asarray(taxonomy.parent, dtype=np.int64)[kept]
        parent = np.concatenate(([0], np.where(above >= 0, row[above], 0))).astype(np.int32)
        columns = [np.arange(len(parent), dtype=np.int32)]
        while (higher := parent[columns[-1]]).any():
            columns.append(higher)
        return TreeVocabulary(
            categories=_id_rows(taxonomy.id, row, ~is_item),
            items=_id_rows(taxonomy.id, row, is_item & kept),
            path=np.stack(columns, axis=1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabularies:
    """All that maps a request's ids and names to rows; part of the bundle."""

    tree: TreeVocabulary
    behavior_names: Mapping[str, Sequence[str]]
    """Names known per behavior field (domain, action, scene); row = position + 1, 0 = unknown."""
    categorical: Mapping[str, U64]
    """Ids known per categorical field, ascending; row = position + 2, 1 = never seen, 0 = missing."""
    streams: tuple[tuple[str, str], ...]
    """The (domain, action) pairs whose match statistics are dense inputs."""

    def behavior_rows(self, field: str, names: Sequence[str]) -> I64:
        """Gives the row of each name of a store generation's vocabulary, by code. int64 (len(names),)."""
        known = {name: row for row, name in enumerate(self.behavior_names[field], start=1)}
        return np.array([known.get(name, 0) for name in names], dtype=np.int64)

    def categorical_rows(self, field: str, ids: U64) -> I64:
        """Gives the row of each value of a categorical field. int64 (N,)."""
        known = self.categorical[field]
        rows = IdRows(ids=known, rows=np.arange(2, len(known) + 2, dtype=np.int64))
        return rows.lookup(ids, np.where(ids == np.uint64(NO_ID), 0, 1).astype(np.int64))


def _id_rows(ids: U64, row: I64, of: Bool) -> IdRows:
    nodes = np.flatnonzero(of)
    nodes = nodes[np.argsort(ids[nodes])]
    return IdRows(ids=np.array(ids[nodes], dtype=np.uint64), rows=row[nodes].astype(np.int64))
