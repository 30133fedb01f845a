"""From ids and numbers to embedding rows: the taxonomy's paths, and the values of fields.

Every taxonomy node, category or item, has one row; its embedding is the sum of the rows on its path to the top. A new
leaf or item thus still has its parents' vectors, and an item seen rarely stays close to its category. Row 0 is "none":
its vector is zero. For a category that is newer than the tree see `model_stage.encoding.ancestors`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from model_stage.config.schema import BucketedField, CategoricalField
from model_stage.encoding.id_search import IdSearch, find_by_halving
from store.keys import mix
from store.lists import Lists
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_stage.config.schema import EmbeddedField, MultiValuedField
    from store.fields import IdLists
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import F32, I32, I64, U64, AnyArray, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRows:
    """Known ids, ascending, and the row of each."""

    ids: U64
    rows: I64
    _search: IdSearch = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert self.ids.shape == self.rows.shape
        assert bool(np.all(self.ids[1:] > self.ids[:-1]))
        object.__setattr__(self, "_search", IdSearch(self.ids))

    def lookup(self, ids: U64, unknown: int = 0) -> I64:
        """Gives the row of each id, `unknown` where there is none. int64 (N,)."""
        at = self._search.find(ids)
        if len(self.rows) == 0:
            return np.full(len(ids), unknown, np.int64)
        return np.where(at < 0, unknown, self.rows[at])

    def unknown(self, ids: U64) -> U64:
        """Gives the ids without a row, ascending, each once; `NO_ID` is never one of them."""
        distinct: U64 = np.unique(ids[ids != np.uint64(NO_ID)])
        return distinct[self._search.find(distinct) < 0]

    def with_more(self, ids: U64, rows: I64) -> IdRows:
        """Gives these ids and some more, ascending and none of them known."""
        at = np.searchsorted(self.ids, ids)
        return IdRows(ids=np.insert(self.ids, at, ids), rows=np.insert(self.rows, at, rows))


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
        rows = self.items.lookup(items)
        unknown = np.flatnonzero(rows == 0)
        if len(unknown):
            rows[unknown] = self.categories.lookup(categories[unknown])
        return rows

    def nearest_rows(self, above: IdLists) -> I64:
        """Gives the row of the first category of each list that is known, 0 where none is. int64 (number of lists,)."""
        rows = self.categories.lookup(above.values)
        known = np.flatnonzero(rows)
        lists, first = np.unique(above.list_of[known], return_index=True)
        nearest = np.zeros(len(above), np.int64)
        nearest[lists] = rows[known[first]]
        return nearest

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
    """Ids known per categorical field without `rows`, ascending; row = position + 2, 1 = unknown, 0 = missing.
    Multi-valued fields too: row = position + 1, 0 = unknown."""
    streams: tuple[tuple[str, str], ...]
    """The (domain, action) pairs whose match statistics are dense inputs."""
    boundaries: Mapping[str, F32] = field(default_factory=lambda: MappingProxyType({}))
    """Where the buckets of each bucketed field begin, but the first; ascending, distinct."""

    def behavior_rows(self, field: str, names: Sequence[str]) -> I64:
        """Gives the row of each name of a store generation's vocabulary, by code. int64 (len(names),)."""
        known = {name: row for row, name in enumerate(self.behavior_names[field], start=1)}
        return np.array([known.get(name, 0) for name in names], dtype=np.int64)

    def knows(self, field: EmbeddedField | MultiValuedField) -> bool:
        """Gives whether there is all that the rows of a field need."""
        if isinstance(field, BucketedField):
            return field.name in self.boundaries
        return field.rows is not None or field.name in self.categorical

    def num_rows(self, field: EmbeddedField | MultiValuedField) -> int:
        """Gives the size of a field's embedding table."""
        if isinstance(field, BucketedField):
            return len(self.boundaries[field.name]) + 2
        return self.first_row(field) + (len(self.categorical[field.name]) if field.rows is None else field.rows)

    def first_row(self, field: EmbeddedField | MultiValuedField) -> int:
        """Gives the first row that is a value's: those before it are "missing" and, in a vocabulary, "unknown"."""
        return 2 if isinstance(field, CategoricalField) and field.rows is None else 1

    def rows_of(self, field: EmbeddedField, values: AnyArray) -> I64:
        """Gives the row of each value of a field: ids or, of a bucketed field, numbers. int64 (N,)."""
        if isinstance(field, BucketedField):
            return bucket_rows(values, self.boundaries[field.name])
        if field.rows is not None:
            return hashed_rows(values, field.rows)
        known = self.categorical[field.name]
        at = find_by_halving(known, values)
        return np.where(at < 0, np.where(values == np.uint64(NO_ID), 0, 1), at + 2)

    def list_rows(self, field: MultiValuedField, lists: IdLists) -> Lists[np.int64]:
        """Gives the rows of the known ids of each list, each row once."""
        ids, list_of = lists.values, lists.list_of
        if field.rows is not None:
            rows = hashed_rows(ids, field.rows)
        else:
            known = self.categorical[field.name]
            rows = find_by_halving(known, ids) + 1
        return Lists.of(list_of[rows > 0], rows[rows > 0], len(lists))


def hashed_rows(ids: U64, num_rows: int) -> I64:
    """Gives 1 + splitmix64(id) modulo `num_rows`, 0 where missing. int64 (N,)."""
    row = (mix(ids) % np.uint64(num_rows)).astype(np.int64) + 1
    return np.where(ids == np.uint64(NO_ID), 0, row)


def bucket_rows(values: F32, boundaries: F32) -> I64:
    """Gives the row of each number: 1 + boundaries at or below it, 0 where missing. int64 (N,).

    Buckets are half-open, and the first and the last have no end::

        boundaries         2.0       3.5
        row         1   |   2    |   3
        values     1.9     2.0      3.5   nan -> 0
    """
    return np.where(np.isnan(values), 0, 1 + np.searchsorted(boundaries, values, side="right"))


def fit_boundaries(values: F32, buckets: int) -> F32:
    """Gives the boundaries that cut some numbers into buckets of equal counts, as far as ties let them.

    Every bucket holds at least one of the numbers; fewer boundaries than `buckets - 1` where numbers repeat.

    Args:
        values: NaN = missing. (N,)
        buckets: At most that many.
    """
    known = np.sort(values[~np.isnan(values)])
    if len(known) == 0:
        return known
    boundaries: F32 = np.unique(known[np.arange(1, buckets) * len(known) // buckets])
    boundaries = boundaries[boundaries > known[0]]
    return boundaries


def _id_rows(ids: U64, row: I64, of: Bool) -> IdRows:
    nodes = np.flatnonzero(of)
    nodes = nodes[np.argsort(ids[nodes])]
    return IdRows(ids=np.array(ids[nodes], dtype=np.uint64), rows=row[nodes].astype(np.int64))
