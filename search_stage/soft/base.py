"""Soft search: the behaviors nearest to the candidate by inner product of attention vectors, exactly.

The answer for one query must not depend on the other queries of the request, but the rounding of fast matrix products
does. So there is one definition of a score, whose rounding depends on the two vectors alone, and fast arithmetic only
proposes: what it proposes is scored again, and what it passes over is proven not to belong to the answer.

What is searched are keys: runs of behaviors of one node. The best `top_k` keys by (score, newest behavior) hold the
best `top_k` behaviors by (score, newest first), for each key that beats another has a behavior that does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from search_stage.index.vectors import norms, to_float32
from search_stage.kernels.compiled import read_only
from search_stage.kernels.widths import LANES
from search_stage.soft.cluster_kernels import scan_clusters
from search_stage.soft.expand_kernels import best_rows, list_keys
from search_stage.soft.soft_kernels import hope_for, scan_keys, take_best

if TYPE_CHECKING:
    from search_stage.history import History
    from search_stage.index.generation import IndexGeneration
    from store.types import F32, I64, U32, U64, Bool

NO_KEY = 2**64 - 1
"""Stands where a query has fewer keys than asked for."""

_ROUNDING = float(4 * np.finfo(np.float32).eps)
"""Twice the bound on the difference of two float32 inner products, per dimension and product of norms: see
`soft_kernels.py`."""
_SMALLEST = 1e-35
"""More than what sums of numbers too small for float32 can be off by."""
_ROWS_AT_ONCE = 1 << 16
_SPARE = 256
"""Room for the keys that a block may bring, and as many before the next selection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What soft search looks through: the vectors behind a history."""

    row: U32
    """Row of the attention table. (K,)"""
    newest: U32
    """Position in time order of the newest behavior. No two keys have the same. (K,)"""

    def __len__(self) -> int:
        return len(self.row)

    @staticmethod
    def of(history: History, representative: U32, window: tuple[int, int] | None = None) -> Keys:
        """Collapses a user's rows. Cost: O(N), of which a read of one column.

        Args:
            history: The user's history.
            representative: For each node of the taxonomy, and for "unmapped", the first node of an equal vector.
            window: Only behaviors at the positions of the time order from the first to before the second.
        """
        first, end = window or (0, history.cut)
        row, newest = list_keys(
            history.node, history.rank, first, end, history.section_start, read_only(representative)
        )
        return Keys(row=row, newest=newest)


class KeySearch(Protocol):
    """Finds the keys nearest to each query."""

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """Gives the best keys of each query by (score, newest behavior), best first. Mutates nothing; thread-safe.

        Scores are those of `score_pairs`, bit by bit.

        Args:
            queries: Finite vectors. (Q, d)
            keys: What to look through.
            top_k: At least 1.

        Returns:
            Packed keys, `pack_keys` says how; `NO_KEY` where there are no more. (Q, top_k)
        """
        ...


class NumpyKeySearch:
    """The plain implementation: scores every pair; the reference twin of all others. Cost: O(Q K d)."""

    def __init__(self, index: IndexGeneration) -> None:
        self._index = index

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """See `KeySearch`."""
        vectors = self._index.take(keys.row)
        out = np.full((len(queries), top_k), NO_KEY, np.uint64)
        for at, query in enumerate(queries):
            packed = np.sort(pack_keys(score_pairs(query[None], vectors), keys.newest))[:top_k]
            out[at, : len(packed)] = packed
        return out


class ScanKeySearch:
    """Looks at every key in compiled code, several queries at once. Thread-safe."""

    def __init__(self, index: IndexGeneration) -> None:
        """Prepares a table. Cost: one read of it, for the largest norm."""
        self._index = index
        self._table = read_only(index.table) if index.table.dtype == np.float32 else None
        self._largest_norm = largest_norm(index)

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """See `KeySearch`."""
        search = RunningBest(queries, top_k, self._largest_norm)
        everyone = np.arange(len(queries))
        if self._table is not None:
            search.hope_for(self._table, keys.row, everyone)
        self._scan(search, keys, everyone)
        best, unproven = search.best()
        if len(unproven):
            search.begin_again(unproven)
            self._scan(search, keys, unproven)
            best, _ = search.best()
        return best

    def _scan(self, search: RunningBest, keys: Keys, who: I64) -> None:
        if self._table is not None:
            search.scan(self._table, keys.row, keys.newest, who)
            return
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            vectors = read_only(self._index.take(keys.row[part]))
            search.scan(vectors, np.arange(len(vectors), dtype=np.uint32), keys.newest[part], who)


class RunningBest:
    """The best keys met so far, for each query of a request."""

    def __init__(self, queries: F32, top_k: int, largest_norm: float) -> None:
        """Begins with none.

        Args:
            queries: (Q, d)
            top_k: At least 1.
            largest_norm: Of any key to come.
        """
        self._queries = read_only(queries)
        self._top_k = top_k
        self._margin = rounding_margin(queries, largest_norm)
        self._best = np.empty((len(queries), top_k + _SPARE), np.uint64)
        self._size = np.zeros(len(queries), np.int64)
        self._least = np.full(len(queries), -np.inf, np.float32)
        self._hope = self._least.copy()

    def hope_for(self, table: F32, row: U32, who: I64) -> None:
        """Sets bars from a sample of the keys to come; `best` says where they were too high."""
        hope_for(table, row, self._queries, who, self._margin, self._top_k, self._least, self._hope)

    def begin_again(self, who: I64) -> None:
        """Forgets what some queries have met, and their bars."""
        self._size[who] = 0
        self._least[who] = self._hope[who] = -np.inf

    def scan(self, table: F32, row: U32, newest: U32, who: I64) -> None:
        """Looks through some keys for some of the queries.

        Args:
            table: Vectors, read-only. (n, d)
            row: Row of each key. (K,)
            newest: Position in time order of each key's newest behavior. (K,)
            who: Queries. (W,)
        """
        scan_keys(
            table,
            row,
            newest,
            self._queries,
            who,
            self._margin,
            self._top_k,
            self._best,
            self._size,
            self._least,
        )

    def scan_clusters(self, table: F32, row: U32, newest: U32, start: I64, nearest: I64, is_probed: Bool) -> None:
        """Looks into some clusters of keys; the names are those of `cluster_kernels.scan_clusters`."""
        scan_clusters(
            table,
            row,
            newest,
            start,
            self._queries,
            nearest,
            is_probed,
            self._margin,
            self._top_k,
            self._best,
            self._size,
            self._least,
        )

    def best(self) -> tuple[U64, I64]:
        """Gives what `KeySearch.nearest` promises, of the keys met, and the queries whose bar was too high for it."""
        return take_best(self._best, self._size, self._hope, self._top_k)


def largest_norm(index: IndexGeneration) -> float:
    """Gives the largest norm of a table's rows. Reads the table."""
    parts = range(0, len(index.table), _ROWS_AT_ONCE)
    return max(float(norms(to_float32(index.table[at : at + _ROWS_AT_ONCE])).max()) for at in parts)


def rounding_margin(queries: F32, largest_norm: float) -> F32:
    """Gives the largest difference between any float32 inner product of a query and a key, and its score. (Q,)."""
    margin: F32 = (_ROUNDING * queries.shape[1] * norms(queries) * largest_norm + _SMALLEST).astype(np.float32)
    return margin


def score_pairs(left: F32, right: F32) -> F32:
    """Gives the inner products of rows: the definition of a score, in plain NumPy.

    Eight partial sums, the k-th of the products at k, k + 8, k + 16 ..., added up in their order; each product and each
    sum is rounded to float32, and a negative zero becomes zero.

    Args:
        left: (n, d), or (1, d) for all.
        right: (n, d)
    """
    products = left * right
    total = np.zeros(len(products), np.float32)
    for lane in range(min(LANES, products.shape[1])):
        part = products[:, lane].copy()
        for at in range(lane + LANES, products.shape[1], LANES):
            part += products[:, at]
        total += part
    return total


def pack_keys(scores: F32, newest: U32) -> U64:
    """Packs scores and positions in time order so that a smaller number is a better key; see `score_kernels.py`."""
    bits = scores.view(np.uint32)
    ascending = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    return (~ascending).astype(np.uint64) << np.uint64(32) | (~newest).astype(np.uint64)


def soft_search(
    search: KeySearch, queries: F32, keys: Keys, history: History, top_k: int, window: tuple[int, int] | None = None
) -> tuple[I64, I64]:
    """Gives the best behaviors of each query by (score, newest first).

    Args:
        search: How to search.
        queries: (Q, d)
        keys: The keys of the history.
        history: The user's history.
        top_k: Behaviors per query, at least 1.
        window: What `keys` were made for; None = the whole history.

    Returns:
        Where each query's list starts in the other, and the end, (Q + 1,); positions in time order, ascending.
    """
    first, end = window or (0, history.cut)
    if end - first <= top_k:
        return np.arange(len(queries) + 1) * (end - first), np.tile(np.arange(first, end), len(queries))
    best = search.nearest(queries, keys, top_k)
    return best_rows(best, history.node, history.rank, history.order, first, history.section_start, top_k)
