"""Kernels of approximate soft search: which clusters a query looks into, and looking into them."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.kernels.sorting import smallest
from search_stage.soft.score_kernels import pack, score
from search_stage.soft.soft_kernels import KeyRows, scan_keys
from store.compiled import kernel

if TYPE_CHECKING:
    from search_stage.soft.soft_kernels import BestKeys
    from store.types import F32, I64, Bool

_ONES = np.uint64(0xFFFFFFFF)


@kernel
def choose_clusters(queries: F32, centroids: F32, start: I64, num_probes: int) -> tuple[I64, Bool]:
    """Gives the nearest of the clusters that occur, and all that a query looks into, by the score of their centroids.

    Args:
        queries: (Q, d)
        centroids: (K, d)
        start: Where each cluster's keys start, and the end; empty ones do not occur. (K + 1,)
        num_probes: Clusters to look into, at most those that occur.

    Returns:
        The nearest one, (Q,), and whether each is looked into, (Q, K).
    """
    cell = np.empty(1, np.float32)
    bits = cell.view(np.uint32)
    packed, best = np.empty(len(centroids), np.uint64), np.empty(num_probes, np.uint64)
    nearest, is_probed = np.zeros(len(queries), np.int64), np.zeros((len(queries), len(centroids)), np.bool_)
    for query in range(len(queries)):
        count = 0
        for cluster in range(len(centroids)):
            if start[cluster] < start[cluster + 1]:
                packed[count] = pack(score(queries, query, centroids, cluster), cluster, bits, cell)
                count += 1
        smallest(packed, count, best)
        for at in range(min(count, num_probes)):
            chosen = np.int64(_ONES - (best[at] & _ONES))
            is_probed[query, chosen] = True
            if at == 0:
                nearest[query] = chosen
    return nearest, is_probed


@kernel
def scan_clusters(keys: KeyRows, start: I64, nearest: I64, is_probed: Bool, best: BestKeys) -> None:
    """Looks into the clusters that were chosen, the nearest of each query first, which sets its bar.

    Args:
        keys: Cluster by cluster. (K keys)
        start: Where each cluster's keys start, and the end. (clusters + 1,)
        nearest: See `choose_clusters`. (Q,)
        is_probed: See `choose_clusters`. (Q, clusters)
        best: Mutated.
    """
    for turn in range(2):
        for cluster in range(len(start) - 1):
            part = slice(start[cluster], start[cluster + 1])
            is_first = nearest == cluster
            query_rows = np.flatnonzero(is_first if turn == 0 else is_probed[:, cluster] & ~is_first)
            if start[cluster] < start[cluster + 1] and len(query_rows):
                scan_keys(KeyRows(keys.table, keys.row[part], keys.newest[part]), query_rows, best)
