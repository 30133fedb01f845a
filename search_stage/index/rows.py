"""Which exported vector each node of a taxonomy gets, and the table that makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.index.selfcheck import largest_norm_error
from search_stage.index.vectors import STORED_AS, to_stored

if TYPE_CHECKING:
    from search_stage.index.export import Export
    from search_stage.index.layout import VectorType
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I64, U32, AnyArray

_ROWS_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSources:
    """For each node, and for "unmapped" at the end, the export's vector it gets.

    Numbers below C are categories of the export, the I above them its items, and C + I stands for no vector.
    """

    source: I64
    """(num_nodes + 1,)"""
    num_own: int
    """Nodes that the export has a vector for."""
    num_without: int
    """Nodes that get none, "unmapped" not counted."""


def find_sources(export: Export, taxonomy: Taxonomy) -> RowSources:
    """Gives a node the vector the export has for it, else that of its nearest ancestor category that has one."""
    nothing = len(export.category_ids) + len(export.item_ids)
    source = np.full(taxonomy.num_nodes + 1, -1, np.int64)
    source[taxonomy.unmapped] = nothing
    _place(source, taxonomy.category_node(export.category_ids), 0)
    _place(source, taxonomy.item_node(export.item_ids), len(export.category_ids))
    lacking = np.flatnonzero(source < 0)
    num_own = taxonomy.num_nodes - len(lacking)
    depth = taxonomy.depth[lacking]
    for level in range(1, taxonomy.max_depth + 1):
        nodes = lacking[depth == level]
        parent = taxonomy.parent[nodes].astype(np.int64)
        source[nodes] = np.where(parent < 0, nothing, source[parent])
    num_without = int(np.count_nonzero(source[:-1] == nothing))
    return RowSources(source=source, num_own=num_own, num_without=num_without)


def _place(source: I64, nodes: U32, first: int) -> None:
    """Points nodes at the export's vectors, ids unknown to the store left out. Mutates `source`."""
    known = np.flatnonzero(nodes < len(source) - 1)
    source[nodes[known]] = first + known


def fill_table(export: Export, rows: RowSources, dtype: VectorType) -> tuple[AnyArray, float]:
    """Gives the attention table: each node's vector, zeros where it has none.

    Returns:
        The vectors as they are stored, (num_nodes + 1, d); and how far a norm is off the exported one, at most.
    """
    num_categories = len(export.category_ids)
    table = np.empty((len(rows.source), export.dim), STORED_AS[dtype])
    norm_error = 0.0
    for start in range(0, len(table), _ROWS_AT_ONCE):
        source = rows.source[start : start + _ROWS_AT_ONCE]
        # Most nodes are items: all rows are read from the items at once, and what is none is then replaced.
        if len(export.item_ids):
            vectors = export.item_vectors.take(source - num_categories, axis=0, mode="clip")
        else:
            vectors = np.empty((len(source), export.dim), np.float32)
        of_category = np.flatnonzero(source < num_categories)
        vectors[of_category] = export.category_vectors[source[of_category]]
        vectors[source == num_categories + len(export.item_ids)] = 0
        stored = to_stored(vectors, dtype)
        if dtype != "float32":
            norm_error = max(norm_error, largest_norm_error(stored, vectors))
        table[start : start + len(source)] = stored
    return table, norm_error
