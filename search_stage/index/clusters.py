"""Coarse clusters of a table's rows: trained anew, or kept with only the changed rows assigned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.index.carry import carry_over
from search_stage.index.kmeans import POINTS_PER_CENTROID, SEED, num_centroids, train_centroids
from search_stage.index.nearest import nearest_centroid
from search_stage.index.vectors import to_float32

if TYPE_CHECKING:
    import numpy.typing as npt

    from search_stage.index.generation import IndexGeneration
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import F32, I64, U32, AnyArray

_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Centroids, and the nearest one of each row."""

    centroids: F32
    """(K, d)"""
    cluster: npt.NDArray[np.uint16]
    """Equal rows have the same. (num_nodes + 1,)"""
    num_carried: int
    """Nodes whose cluster was taken over."""


def cluster_anew(table: AnyArray, representative: U32) -> Clusters:
    """Trains centroids on different vectors of the table, drawn at random, and assigns every row.

    Args:
        table: Vectors as they are stored. (num_nodes + 1, d)
        representative: For each row the first equal one. (num_nodes + 1,)
    """
    distinct = np.flatnonzero(representative == np.arange(len(representative)))
    count = num_centroids(len(distinct))
    sample = distinct
    if len(distinct) > count * POINTS_PER_CENTROID:
        sample = np.sort(np.random.default_rng(SEED).choice(distinct, count * POINTS_PER_CENTROID, replace=False))
    centroids = train_centroids(to_float32(table.take(sample, axis=0)), count)
    cluster = np.zeros(len(table), np.uint16)
    _assign(cluster, table, distinct, centroids)
    return Clusters(centroids=centroids, cluster=cluster[representative], num_carried=0)


def cluster_on(base: IndexGeneration, taxonomy: Taxonomy, table: AnyArray, representative: U32) -> Clusters:
    """Keeps a base's centroids and the clusters of its unchanged rows, and assigns the others.

    Args:
        base: The index to build on; of the type of `table`.
        taxonomy: Of the new index.
        table: As `cluster_anew`.
        representative: As `cluster_anew`.
    """
    carried = carry_over(base, taxonomy, table)
    cluster = np.append(carried.cluster, base.cluster[-1])  # "unmapped" is all zeros in every index
    is_known = np.append(carried.is_carried, True)
    # One row that was carried tells the cluster of all rows equal to it.
    cluster[representative[is_known]] = cluster[is_known]
    is_known[representative[is_known]] = True
    lacking = np.flatnonzero(~is_known & (representative == np.arange(len(representative))))
    centroids = np.array(base.centroids)
    _assign(cluster, table, lacking, centroids)
    return Clusters(
        centroids=centroids, cluster=cluster[representative], num_carried=int(np.count_nonzero(carried.is_carried))
    )


def _assign(cluster: npt.NDArray[np.uint16], table: AnyArray, rows: I64, centroids: F32) -> None:
    """Assigns some rows to their nearest centroids. Mutates `cluster`."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        cluster[part] = nearest_centroid(to_float32(table.take(part, axis=0)), centroids)
