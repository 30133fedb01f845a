"""What a new index takes over from the current one: centroids, and the clusters of rows that are unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.errors import UnusableIndexError
from search_stage.index.generation import IndexGeneration
from search_stage.index.kmeans import num_centroids
from search_stage.index.vectors import differing_rows
from store.errors import GenerationError, MissingGenerationError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from search_stage.index.export import Export
    from search_stage.index.layout import VectorType
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import AnyArray, Bool

_ROWS_AT_ONCE = 1 << 16


def find_base(root: Path, export: Export, dtype: VectorType, num_distinct: int) -> tuple[IndexGeneration | None, str]:
    """Gives the current index generation if its centroids are right for a new one; else None, and why not.

    They are when it was built from the very same export, in the same type, and a build from nothing would make as many
    centroids.

    Args:
        root: Root of the index.
        export: What the new one is built from.
        dtype: How it will store its vectors.
        num_distinct: Different vectors it will have.
    """
    try:
        index = IndexGeneration.open(root)
    except MissingGenerationError:
        return None, "no index is published there"
    except (GenerationError, UnusableIndexError) as error:
        return None, f"the current index cannot be used ({error})"
    meta = index.meta
    if (meta.model, meta.export_sha256) != (export.model, export.sha256):
        reason = f"{index.name} is of another export: model {meta.model}, not {export.model}"
        if meta.model == export.model:
            reason = f"{index.name} is of another export of model {meta.model}"
    elif meta.dtype != dtype:
        reason = f"{index.name} stores {meta.dtype}, not {dtype}"
    elif meta.num_clusters != num_centroids(num_distinct):
        reason = f"{index.name} has {meta.num_clusters} clusters, {num_distinct:,} vectors need another number"
    else:
        return index, ""
    return None, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Rows of a new table that the base has too, with the same vector."""

    is_carried: Bool
    """(num_nodes,)"""
    cluster: npt.NDArray[np.uint16]
    """The base's cluster; meaningless where not carried. (num_nodes,)"""


def carry_over(base: IndexGeneration, taxonomy: Taxonomy, table: AnyArray) -> Carried:
    """Finds the nodes that the base knows under the same id, with a vector that is bitwise the same.

    Args:
        base: The index to build on.
        taxonomy: Of the new index.
        table: Its vectors as they are stored, of the base's type. (num_nodes + 1, d)
    """
    is_carried = np.zeros(taxonomy.num_nodes, np.bool_)
    cluster = np.zeros(taxonomy.num_nodes, np.uint16)
    for is_item, find in ((False, taxonomy.category_node), (True, taxonomy.item_node)):
        old = np.flatnonzero(base.is_item == is_item)
        new = find(base.ids[old])
        known = np.flatnonzero(new < taxonomy.unmapped)
        for start in range(0, len(known), _ROWS_AT_ONCE):
            rows = known[start : start + _ROWS_AT_ONCE]
            changed = differing_rows(table.take(new[rows], axis=0), base.table.take(old[rows], axis=0))
            same = np.delete(rows, changed)
            is_carried[new[same]] = True
            cluster[new[same]] = base.cluster[old[same]]
    return Carried(is_carried=is_carried, cluster=cluster)
