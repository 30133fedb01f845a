"""Soft search that looks only into the clusters nearest to the query, for histories so long that exactness costs much.

The clusters are those of the index, the same for all users. A user's keys are put in the order of their clusters once
per request, so that looking into one is a slice of them. What is looked into depends on the query and the index alone:
a candidate's list still does not depend on the other candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.soft.base import NO_KEY, largest_norm, rounding_margin
from search_stage.soft.cluster_kernels import choose_clusters, scan_clusters
from search_stage.soft.engines import make_engine
from search_stage.soft.soft_kernels import BestKeys, KeyRows, take_best
from store.compiled import read_only

if TYPE_CHECKING:
    from search_stage.config import SoftConfig
    from search_stage.index.generation import IndexGeneration
    from search_stage.soft.base import Keys, KeySearch
    from store.types import F32, U64


class ClusterKeySearch:
    """Searches some clusters of long histories, and short histories exactly. Thread-safe."""

    def __init__(self, index: IndexGeneration, exact: KeySearch, from_keys: int, probe_one_in: int) -> None:
        """Prepares an index.

        Args:
            index: Its clusters are used.
            exact: Searches what is shorter, and queries whose clusters hold too little.
            from_keys: Keys of a history from which on the search is approximate.
            probe_one_in: Probe 1/N of the clusters.
        """
        self._index = index
        self._exact = exact
        self._from_keys = from_keys
        self._probes = -(-len(index.centroids) // probe_one_in)
        self._largest_norm = largest_norm(index)
        self._table = read_only(index.table) if index.table.dtype == np.float32 else None
        self._centroids = read_only(np.ascontiguousarray(index.centroids))

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """See `KeySearch`, but that keys of clusters far from the query may be missed."""
        if len(keys) < self._from_keys:
            return self._exact.nearest(queries, keys, top_k)
        cluster = self._index.cluster[keys.row]
        order = np.argsort(cluster, kind="stable")
        start = np.concatenate(([0], np.cumsum(np.bincount(cluster, minlength=len(self._centroids)))))
        table, row = self._table, keys.row[order]
        if table is None:
            table, row = read_only(self._index.take(row)), np.arange(len(row), dtype=np.uint32)
        nearest, is_probed = choose_clusters(read_only(queries), self._centroids, start, self._probes)
        found = BestKeys.none(queries, rounding_margin(queries, self._largest_norm), top_k)
        scan_clusters(KeyRows(table, row, keys.newest[order]), start, nearest, is_probed, found)
        best, _ = take_best(found)
        # A query of zeros is as near to one cluster as to another.
        lacking = np.flatnonzero((best[:, -1] == NO_KEY) | ~queries.any(axis=1))
        if len(lacking):
            best[lacking] = self._exact.nearest(queries[lacking], keys, top_k)
        return best


def key_search_of(index: IndexGeneration, config: SoftConfig) -> KeySearch:
    """Gives the soft search that a configuration asks for: an engine, and around it the approximate path if it is on.

    Raises:
        FaissMissingError: The engine is not installed, or has no device.
    """
    exact = make_engine(config.engine, index)
    if config.approximate_from is None:
        return exact
    return ClusterKeySearch(index, exact, config.approximate_from, config.probe_one_in)
