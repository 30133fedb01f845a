"""Soft search that looks only into the clusters nearest to the query, for histories so long that exactness costs much.

The clusters are those of the index, the same for all users. A user's keys are put in the order of their clusters once
per request, so that looking into one is a slice of them. What is looked into depends on the query and the index alone:
a candidate's list still does not depend on the other candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.compiled import read_only
from search_stage.scoring import score_listed
from search_stage.soft import NO_KEY, RunningBest, largest_norm

if TYPE_CHECKING:
    from search_stage.index.generation import IndexGeneration
    from search_stage.soft import Keys, KeySearch
    from store.types import F32, I64, U64, Bool


class ClusterKeySearch:
    """Searches some clusters of long histories, and short histories exactly. Thread-safe."""

    def __init__(self, index: IndexGeneration, exact: KeySearch, from_keys: int, probe_one_in: int) -> None:
        """Prepares an index.

        Args:
            index: Its clusters are used.
            exact: Searches what is shorter, and queries whose clusters hold too little.
            from_keys: Keys of a history from which on the search is approximate.
            probe_one_in: Look into one in so many of the clusters.
        """
        self._index = index
        self._exact = exact
        self._from_keys = from_keys
        self._probes = -(-len(index.centroids) // probe_one_in)
        self._largest_norm = largest_norm(index)

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """See `soft.KeySearch`, but that keys of clusters far from the query may be missed."""
        if len(keys) < self._from_keys:
            return self._exact.nearest(queries, keys, top_k)
        cluster = self._index.cluster[keys.row]
        order = np.argsort(cluster, kind="stable")
        row, newest = keys.row[order], keys.newest[order]
        starts = np.searchsorted(cluster[order], np.arange(len(self._index.centroids) + 1))
        is_probed = self._probed(queries, np.flatnonzero(np.diff(starts)))
        search = RunningBest(queries, top_k, self._largest_norm)
        for at in np.flatnonzero(is_probed.any(axis=0)):
            part = slice(int(starts[at]), int(starts[at + 1]))
            vectors = read_only(self._index.take(row[part]))
            here = np.arange(len(vectors), dtype=np.uint32)
            search.scan(vectors, here, newest[part], np.flatnonzero(is_probed[:, at]))
        best, _ = search.best()
        # A query of zeros is as near to one cluster as to another.
        lacking = np.flatnonzero((best[:, -1] == NO_KEY) | ~queries.any(axis=1))
        if len(lacking):
            best[lacking] = self._exact.nearest(queries[lacking], keys, top_k)
        return best

    def _probed(self, queries: F32, occurring: I64) -> Bool:
        """Says which clusters each query looks into: of those that occur the ones of the highest score. (Q, K)."""
        centroids = read_only(self._index.centroids[occurring])
        start = np.arange(len(queries) + 1) * len(occurring)
        scores = np.empty(int(start[-1]), np.float32)
        everyone, position = np.arange(len(queries)), np.tile(np.arange(len(occurring), dtype=np.int32), len(queries))
        score_listed(read_only(queries), centroids, everyone, start, position, scores)
        nearest = np.argsort(-scores.reshape(len(queries), len(occurring)), axis=1, kind="stable")[:, : self._probes]
        is_probed = np.zeros((len(queries), len(self._index.centroids)), np.bool_)
        np.put_along_axis(is_probed, occurring[nearest], True, axis=1)
        return is_probed
