"""Soft search: the behaviors nearest to the candidate by inner product of attention vectors, exactly.

The answer for one query must not depend on the other queries of the request, but the rounding of fast matrix products
does. So there is one definition of a score, whose rounding depends on the two vectors alone, and fast arithmetic only
proposes: what it proposes is scored again, and what it passes over is proven not to belong to the answer.

What is searched are keys: runs of behaviors of one node. The best `top_k` keys by (score, newest behavior) hold the
best `top_k` behaviors by (score, newest first), for each key that beats another has a behavior that does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from search_stage.index.vectors import norms, to_float32
from search_stage.kernels.widths import LANES
from search_stage.soft.expand_kernels import best_rows, list_keys
from store.compiled import read_only

if TYPE_CHECKING:
    from search_stage.history import History
    from search_stage.index.generation import IndexGeneration
    from store.types import F32, I64, U32, U64

NO_KEY = 2**64 - 1
"""Stands where a query has fewer keys than asked for."""
SLACK = 16
"""Keys proposed beyond `top_k`: enough that rounding rarely matters, few enough to cost nothing."""

_ROUNDING = float(4 * np.finfo(np.float32).eps)
"""Twice the bound on the difference of two float32 inner products, per dimension and product of norms: see
`soft_kernels.py`."""
_SMALLEST = 1e-35
"""More than what sums of numbers too small for float32 can be off by."""
_ROWS_AT_ONCE = 1 << 16


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


class ProposingEngine(ABC):
    """A `KeySearch` by a library whose scores are rounded in a way of their own. Thread-safe where `propose` is.

    The proposal is scored again, and accepted for a query only if no key outside it can reach the `top_k`-th score,
    rounding included. Else that query is scored in full.
    """

    def __init__(self, index: IndexGeneration) -> None:
        """Prepares an index. Cost: one read of its table, for the largest norm."""
        self.index = index
        self.largest_norm = largest_norm(index)

    @abstractmethod
    def propose(self, queries: F32, rows: U32, count: int) -> tuple[F32, I64]:
        """Gives the keys of the highest inner products with each query.

        Args:
            queries: Finite vectors. (Q, d)
            rows: Row of each key in the attention table; more than `count`. (K,)
            count: Keys to propose, at least 1.

        Returns:
            Their scores, highest first, and which of `rows` they are, equal scores in any order; -1 = no key.
            (Q, count) each.
        """

    def margin(self, queries: F32) -> F32:
        """Gives the largest difference between a proposed score and that of `score_pairs`, of each query. (Q,)."""
        return rounding_margin(queries, self.largest_norm)

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """See `KeySearch`."""
        if len(keys) <= top_k + SLACK:
            return nearest_of_all(self.index, queries, keys, top_k)
        proposed, chosen = self.propose(queries, keys.row, top_k + SLACK)
        lowest = proposed[:, -1] + self.margin(queries)
        best = np.full((len(queries), top_k), NO_KEY, np.uint64)
        for at, query in enumerate(queries):
            scores = score_pairs(query[None], self.index.take(keys.row[chosen[at]]))
            if chosen[at].min() >= 0 and np.partition(scores, -top_k)[-top_k] > lowest[at]:
                best[at] = np.sort(pack_keys(scores, keys.newest[chosen[at]]))[:top_k]
            else:
                best[at] = nearest_of_all(self.index, query[None], keys, top_k)[0]
        return best


def nearest_of_all(index: IndexGeneration, queries: F32, keys: Keys, top_k: int) -> U64:
    """The definition of `KeySearch.nearest`: scores every pair and sorts. Cost: O(Q K d)."""
    vectors = index.take(keys.row)
    best = np.full((len(queries), top_k), NO_KEY, np.uint64)
    for at, query in enumerate(queries):
        packed = np.sort(pack_keys(score_pairs(query[None], vectors), keys.newest))[:top_k]
        best[at, : len(packed)] = packed
    return best


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
