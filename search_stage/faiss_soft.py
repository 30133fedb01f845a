"""Soft search by FAISS. The only module that imports faiss.

FAISS picks its kernel by the number of queries, and kernels round differently, so its order is only a proposal: it
proposes `top_k` keys and some slack, they are scored again by `soft.score_pairs`, and the proposal is accepted for a
query only if no key outside it can reach the `top_k`-th score, rounding included. Else that query is scored in full.
"""

from __future__ import annotations

import importlib
from importlib.metadata import Distribution
from typing import TYPE_CHECKING, Any

import numpy as np

from search_stage.errors import FaissMissingError
from search_stage.soft import Shortlist, best_keys, score_all, score_pairs

if TYPE_CHECKING:
    from store.types import F32

_GPU_WHEELS = ("faiss-gpu", "faiss-gpu-cuvs")
_SLACK = 16
"""Keys proposed beyond `top_k`: enough that rounding rarely matters, few enough to cost nothing."""
_ROUNDING = float(4 * np.finfo(np.float32).eps)
"""Twice the bound on the difference of two float32 inner products of any summation order, per dimension and product
of norms. Source: |fl(x.y) - x.y| <= d u |x|.|y| + O(u^2), u = eps / 2 (Higham 2002, section 3.1), twice."""


class FaissKeySearch:
    """Exact search of one user's keys through `faiss.knn`. Thread-safe.

    FAISS runs OpenMP inside: export `OMP_NUM_THREADS=1` before a server of several threads starts.
    """

    def __init__(self, dim: int) -> None:
        """Imports faiss and tunes it for vectors of `dim` dimensions.

        Raises:
            FaissMissingError: Neither wheel is installed, or it does not load.
        """
        self._faiss = _import_faiss()
        # Process-global. The default of 128000 keeps the slow scan for every request of ours; with 4 d the matrix
        # product takes over from 4 pairs on (measured: 2 to 6 times faster for 4 queries and more).
        self._faiss.cvar.distance_compute_blas_threshold = 4 * dim

    def shortlist(self, queries: F32, keys: F32, top_k: int) -> Shortlist:
        """See `soft.KeySearch`."""
        if len(keys) <= top_k + _SLACK:
            return best_keys(score_all(queries, keys), top_k)
        proposed, ids = self._faiss.knn(queries, keys, top_k + _SLACK, metric=self._faiss.METRIC_INNER_PRODUCT)
        query = np.repeat(np.arange(len(queries)), ids.shape[1])
        key = ids.ravel()
        score = score_pairs(queries, keys, query, np.maximum(key, 0))
        largest_norm = float(np.sqrt(np.vecdot(keys, keys).max()))
        margin = _ROUNDING * queries.shape[1] * np.sqrt(np.vecdot(queries, queries)) * largest_norm
        kth_best = np.partition(score.reshape(ids.shape), -top_k, axis=1)[:, -top_k]
        proven = (ids.min(axis=1) >= 0) & (kth_best > proposed[:, -1] + margin)
        keep = np.flatnonzero(proven[query] & (score >= kth_best[query]))
        parts = [Shortlist(query=query[keep], key=key[keep], score=score[keep])]
        for at in np.flatnonzero(~proven):
            full = best_keys(score_all(queries[at : at + 1], keys), top_k)
            parts.append(Shortlist(query=full.query + at, key=full.key, score=full.score))
        return Shortlist(
            query=np.concatenate([part.query for part in parts]),
            key=np.concatenate([part.key for part in parts]),
            score=np.concatenate([part.score for part in parts]),
        )


def _import_faiss() -> Any:  # noqa: ANN401 -- faiss has no type information
    if any(True for name in _GPU_WHEELS for _ in Distribution.discover(name=name)):
        # They bundle another CUDA than torch may: importing faiss first can crash the process.
        importlib.import_module("torch")
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise FaissMissingError(
            f"faiss cannot be imported ({error}); install one of its wheels: `pip install 'lookback[cpu]'`, "
            "or `pip install 'lookback[gpu]'` on a machine with an NVIDIA GPU"
        ) from error
