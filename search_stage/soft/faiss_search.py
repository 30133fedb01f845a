"""Soft search by FAISS.

FAISS picks its kernel by the number of queries, and kernels round differently, so its order is only a proposal: it
proposes `top_k` keys and some slack, they are scored again, and the proposal is accepted for a query only if no key
outside it can reach the `top_k`-th score, rounding included. Else that query is scored in full.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from search_stage.index.faiss_module import load_faiss
from search_stage.soft.base import NO_KEY, NumpyKeySearch, largest_norm, pack_keys, rounding_margin, score_pairs

if TYPE_CHECKING:
    from search_stage.index.generation import IndexGeneration
    from search_stage.soft.base import Keys
    from store.types import F32, I64, U64

SLACK = 16
"""Keys proposed beyond `top_k`: enough that rounding rarely matters, few enough to cost nothing."""
_TRIED_QUERIES = (1, 2, 3, 4, 6, 8, 16)
_TRIED_KEYS = 2_000
_TRIES = 5


def calibrate(faiss: Any, dim: int) -> int:  # noqa: ANN401 -- faiss has no type information
    """Finds from how many queries on FAISS should multiply matrices on this machine, and tells it; some 30 ms.

    FAISS scans while `queries * d` is below a threshold, one for the whole process; its default keeps the slow scan
    for every request of ours.

    Args:
        faiss: The module.
        dim: Dimensions of the vectors.

    Returns:
        The least number of queries that are multiplied.
    """
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((_TRIED_KEYS, dim), dtype=np.float32)

    def least_s(count: int, threshold: int) -> float:
        faiss.cvar.distance_compute_blas_threshold = threshold
        times_s = []
        for _ in range(_TRIES):
            start_s = time.perf_counter()
            faiss.knn(vectors[:count], vectors, SLACK, metric=faiss.METRIC_INNER_PRODUCT)
            times_s.append(time.perf_counter() - start_s)
        return min(times_s)

    always, never = 1, (_TRIED_QUERIES[-1] + 1) * dim
    scanned = [count for count in _TRIED_QUERIES if least_s(count, never) < least_s(count, always)]
    first = 1 + max(scanned, default=0)
    faiss.cvar.distance_compute_blas_threshold = first * dim
    return first


class FaissKeySearch:
    """Exact search of one user's keys through `faiss.knn`. Thread-safe.

    FAISS runs OpenMP inside: export `OMP_NUM_THREADS=1` before a server of several threads starts.
    """

    def __init__(self, index: IndexGeneration) -> None:
        """Imports faiss and tunes it for the vectors of an index.

        Raises:
            FaissMissingError: Neither wheel is installed, or it does not load.
        """
        self.faiss = load_faiss()
        calibrate(self.faiss, index.dim)
        self._index = index
        self._plain = NumpyKeySearch(index)
        self.largest_norm = largest_norm(index)

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """See `soft.KeySearch`."""
        if len(keys) <= top_k + SLACK:
            return self._plain.nearest(queries, keys, top_k)
        vectors = self._index.take(keys.row)
        proposed, ids = self.faiss.knn(queries, vectors, top_k + SLACK, metric=self.faiss.METRIC_INNER_PRODUCT)
        return self.accept(queries, keys, vectors, proposed, ids, top_k, self.margin(queries))

    def margin(self, queries: F32) -> F32:
        """Gives the largest difference between a proposed score and the score, of each query. (Q,)."""
        return rounding_margin(queries, self.largest_norm)

    def accept(self, queries: F32, keys: Keys, vectors: F32, proposed: F32, ids: I64, top_k: int, margin: F32) -> U64:
        """Scores what was proposed again, and in full the queries whose proposal is not proven.

        Args:
            queries: (Q, d)
            keys: What was looked through.
            vectors: Theirs. (K, d)
            proposed: Scores of the proposal, best first. (Q, top_k + slack)
            ids: Their keys, -1 = none.
            top_k: At least 1.
            margin: Largest difference between a proposed score and the score, of each query. (Q,)
        """
        out = np.full((len(queries), top_k), NO_KEY, np.uint64)
        for at, query in enumerate(queries):
            scores = score_pairs(query[None], vectors[ids[at]])
            packed = np.sort(pack_keys(scores, keys.newest[ids[at]]))
            kth_best = np.partition(scores, -top_k)[-top_k]
            if ids[at].min() >= 0 and kth_best > proposed[at, -1] + margin[at]:
                out[at] = packed[:top_k]
            else:
                out[at] = self._plain.nearest(query[None], keys, top_k)[0]
        return out
