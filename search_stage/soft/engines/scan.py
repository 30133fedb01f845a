"""Every key looked at in compiled code, several queries at once; its kernels pack keys and prove them themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.soft.base import largest_norm, rounding_margin
from search_stage.soft.soft_kernels import BestKeys, KeyRows, estimate_bar, scan_keys, take_best
from store.compiled import read_only

if TYPE_CHECKING:
    from search_stage.index.generation import IndexGeneration
    from search_stage.soft.base import Keys
    from store.types import F32, I64, U64

_ROWS_AT_ONCE = 1 << 16


class Engine:
    """Searches the table in place where it is float32, else a copy of its rows, part by part. Thread-safe."""

    def __init__(self, index: IndexGeneration) -> None:
        """Prepares a table. Cost: one read of it, for the largest norm."""
        self._index = index
        self._table = read_only(index.table) if index.table.dtype == np.float32 else None
        self._largest_norm = largest_norm(index)

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """See `KeySearch`."""
        best = BestKeys.none(queries, rounding_margin(queries, self._largest_norm), top_k)
        all_queries = np.arange(len(queries))
        if self._table is not None:
            estimate_bar(self._table, keys.row, all_queries, best)
        self._scan(keys, all_queries, best)
        packed, unproven = take_best(best)
        if len(unproven):
            best.size[unproven] = 0
            best.bar[unproven] = best.required_score[unproven] = -np.inf
            self._scan(keys, unproven, best)
            packed, _ = take_best(best)
        return packed

    def _scan(self, keys: Keys, query_rows: I64, best: BestKeys) -> None:
        if self._table is not None:
            scan_keys(KeyRows(self._table, keys.row, keys.newest), query_rows, best)
            return
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            vectors = read_only(self._index.take(keys.row[part]))
            rows = np.arange(len(vectors), dtype=np.uint32)
            scan_keys(KeyRows(vectors, rows, keys.newest[part]), query_rows, best)
