"""Soft search by FAISS on an NVIDIA GPU: the attention table lies on the device, keys are gathered there."""

from __future__ import annotations

import importlib
import logging
import threading
from typing import TYPE_CHECKING

import numpy as np

from search_stage.errors import FaissMissingError
from search_stage.index.vectors import norms, to_float32
from search_stage.soft.faiss_search import SLACK, FaissKeySearch

if TYPE_CHECKING:
    from search_stage.index.generation import IndexGeneration
    from search_stage.soft.base import Keys
    from store.types import F32, U64

_log = logging.getLogger(__name__)

_LARGEST_K = 2048
"""Of `knn_gpu`."""
_TEMP_BYTES = 256 << 20
_SHORT_PRODUCTS = 2.0**-9
"""A device may multiply with 10 bits of mantissa (TF32): twice the bound on what both factors then lose, in products of
norms."""


class GpuKeySearch:
    """Exact search through `faiss.knn_gpu`; what does not fit it is searched on the CPU, and said so once. Thread-safe.

    One request at a time is on the device, for its resources are not for concurrent threads. Users are batched by
    `nearest_of_many`, which waits for the device once.
    """

    def __init__(self, index: IndexGeneration) -> None:
        """Puts the attention table on the first device.

        Raises:
            FaissMissingError: The installed wheel has no GPU code, or there is no device.
        """
        self._cpu = FaissKeySearch(index)
        self._torch = importlib.import_module("torch")
        self._faiss = self._cpu.faiss
        if not hasattr(self._faiss, "StandardGpuResources") or not self._torch.cuda.is_available():
            raise FaissMissingError(
                "soft.engine: gpu needs an NVIDIA GPU and `pip install 'lookback[gpu]'`; there is none here, or faiss "
                "has no GPU code"
            )
        importlib.import_module("faiss.contrib.torch_utils")  # lets knn_gpu take tensors that lie on the device
        self._resources = self._faiss.StandardGpuResources()
        self._resources.setTempMemory(_TEMP_BYTES)
        self._table = self._torch.from_numpy(np.ascontiguousarray(to_float32(index.table))).cuda()
        self._index = index
        self._lock = threading.Lock()

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """See `soft.KeySearch`."""
        return self.nearest_of_many([(queries, keys)], top_k)[0]

    def nearest_of_many(self, users: list[tuple[F32, Keys]], top_k: int) -> list[U64]:
        """Answers several users: all work is queued on the device before the first result is waited for.

        Args:
            users: Queries and keys of each user, as for `soft.KeySearch.nearest`.
            top_k: At least 1.
        """
        wanted = top_k + SLACK
        fits = [wanted <= _LARGEST_K and len(keys) > wanted for _, keys in users]
        proposals = {}
        with self._lock:
            for at, (queries, keys) in enumerate(users):
                if not fits[at]:
                    continue
                rows = self._torch.from_numpy(keys.row.astype(np.int64)).cuda(non_blocking=True)
                proposals[at] = self._faiss.knn_gpu(
                    self._resources,
                    self._torch.from_numpy(np.ascontiguousarray(queries)).cuda(non_blocking=True),
                    self._table.index_select(0, rows),
                    wanted,
                    metric=self._faiss.METRIC_INNER_PRODUCT,
                )
            ready = {at: [part.cpu().numpy() for part in proposal] for at, proposal in proposals.items()}
        if wanted > _LARGEST_K:
            _log.warning("soft.top_k: %d is more than a GPU selects, %d: searched on the CPU", top_k, _LARGEST_K)
        answers = []
        for at, (queries, keys) in enumerate(users):
            if fits[at]:
                proposed, ids = ready[at]
                vectors, margin = self._index.take(keys.row), self._margin(queries)
                answers.append(self._cpu.accept(queries, keys, vectors, proposed, ids, top_k, margin))
            else:
                answers.append(self._cpu.nearest(queries, keys, top_k))
        return answers

    def _margin(self, queries: F32) -> F32:
        short = (_SHORT_PRODUCTS * self._cpu.largest_norm * norms(queries)).astype(np.float32)
        return self._cpu.margin(queries) + short
