"""Keys proposed by FAISS on an NVIDIA GPU: the attention table lies on the device, keys are gathered there."""

from __future__ import annotations

import importlib
import logging
import threading
from typing import TYPE_CHECKING

import numpy as np

from search_stage.errors import FaissMissingError
from search_stage.index.vectors import norms, to_float32
from search_stage.soft.engines.faiss import Engine as FaissEngine

if TYPE_CHECKING:
    from search_stage.index.generation import IndexGeneration
    from store.types import F32, I64, U32

_log = logging.getLogger(__name__)

_LARGEST_K = 2048
"""Of `knn_gpu`."""
_TEMP_BYTES = 256 << 20
_SHORT_PRODUCTS = 2.0**-9
"""A device may multiply with 10 bits of mantissa (TF32): twice the bound on what both factors then lose, in products of
norms."""


class Engine(FaissEngine):
    """Searches through `faiss.knn_gpu`; more keys than it selects are searched on the CPU, with a warning. Thread-safe.

    One request at a time is on the device, for its resources are not for concurrent threads.
    """

    def __init__(self, index: IndexGeneration) -> None:
        """Puts the attention table on the first device.

        Raises:
            FaissMissingError: The installed wheel has no GPU code, or there is no device.
        """
        super().__init__(index)
        self._torch = importlib.import_module("torch")
        if not hasattr(self.faiss, "StandardGpuResources") or not self._torch.cuda.is_available():
            raise FaissMissingError(
                "soft.engine: gpu needs an NVIDIA GPU and `pip install 'lookback[gpu]'`; there is none here, or faiss "
                "has no GPU code"
            )
        importlib.import_module("faiss.contrib.torch_utils")  # lets knn_gpu take tensors that lie on the device
        self._resources = self.faiss.StandardGpuResources()
        self._resources.setTempMemory(_TEMP_BYTES)
        self._table = self._torch.from_numpy(np.ascontiguousarray(to_float32(index.table))).cuda()
        self._lock = threading.Lock()

    def propose(self, queries: F32, rows: U32, count: int) -> tuple[F32, I64]:
        """See `ProposingEngine`."""
        if count > _LARGEST_K:
            _log.warning("soft.top_k: a GPU selects %d keys, %d are needed: searched on the CPU", _LARGEST_K, count)
            return super().propose(queries, rows, count)
        with self._lock:
            on_device = self._torch.from_numpy(rows.astype(np.int64)).cuda(non_blocking=True)
            scores, keys = self.faiss.knn_gpu(
                self._resources,
                self._torch.from_numpy(np.ascontiguousarray(queries)).cuda(non_blocking=True),
                self._table.index_select(0, on_device),
                count,
                metric=self.faiss.METRIC_INNER_PRODUCT,
            )
            return scores.cpu().numpy(), keys.cpu().numpy()

    def margin(self, queries: F32) -> F32:
        """See `ProposingEngine`; a device rounds more."""
        short = (_SHORT_PRODUCTS * self.largest_norm * norms(queries)).astype(np.float32)
        return super().margin(queries) + short
