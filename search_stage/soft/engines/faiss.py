"""Keys proposed by FAISS, which picks its arithmetic by the number of queries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from search_stage.index.faiss_module import load_faiss
from search_stage.soft.base import SLACK, ProposingEngine

if TYPE_CHECKING:
    from search_stage.index.generation import IndexGeneration
    from store.types import F32, I64, U32

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


class Engine(ProposingEngine):
    """Searches the gathered vectors of one user through `faiss.knn`. Thread-safe.

    FAISS runs OpenMP inside: export `OMP_NUM_THREADS=1` before a server of several threads starts.
    """

    def __init__(self, index: IndexGeneration) -> None:
        """Imports faiss and tunes it for the vectors of an index.

        Raises:
            FaissMissingError: Neither wheel is installed, or it does not load.
        """
        super().__init__(index)
        self.faiss = load_faiss()
        calibrate(self.faiss, index.dim)

    def propose(self, queries: F32, rows: U32, count: int) -> tuple[F32, I64]:
        """See `ProposingEngine`."""
        scores, keys = self.faiss.knn(queries, self.index.take(rows), count, metric=self.faiss.METRIC_INNER_PRODUCT)
        return scores, keys
