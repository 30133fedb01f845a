"""Soft search: the behaviors nearest to the candidate by inner product of attention vectors, exactly.

The answer for one query must not depend on the other queries of the request, but the floating-point rounding of fast
matrix products does. So there is one definition of a score, `score_pairs`, whose rounding depends on the two vectors
alone, and the fast path only proposes a shortlist that is proven to hold the answer under that definition.

Behaviors of equal vectors are collapsed to one key first: a product bought fifty times, or ten products that have only
their category's vector, are scored once and cannot push one another out of the shortlist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from search_stage.ragged import expand_ranges, position_in_group

if TYPE_CHECKING:
    from search_stage.runs import NodeRuns
    from store.types import F32, I64, U32, U64

_PAIRS_AT_ONCE = 1 << 20
_RANK_BITS = np.uint64(32)
"""Low bits of a composite sort key: a position in time order, which the store keeps in 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortlist:
    """Scored pairs of a query and a key, in no order."""

    query: I64
    """(P,)"""
    key: I64
    """(P,)"""
    score: F32
    """Inner product, higher is better. (P,)"""


class KeySearch(Protocol):
    """Finds the keys nearest to each query."""

    def shortlist(self, queries: F32, keys: F32, top_k: int) -> Shortlist:
        """Gives pairs that hold, for each query, every key scoring at least its `top_k`-th best score.

        Further keys may be among them: the caller ranks. Scores are those of `score_pairs`, bit by bit. Mutates
        nothing; thread-safe.

        Args:
            queries: Finite vectors. (Q, d)
            keys: Finite vectors, at least one. (K, d)
            top_k: At least 1.
        """
        ...


class NumpyKeySearch:
    """The plain implementation: scores every pair; the reference twin of the FAISS path. Cost: O(Q K d)."""

    def shortlist(self, queries: F32, keys: F32, top_k: int) -> Shortlist:
        """See `KeySearch`."""
        return best_keys(score_all(queries, keys), top_k)


def best_keys(scores: F32, top_k: int) -> Shortlist:
    """Gives, for each query, the keys that reach its `top_k`-th best score.

    Args:
        scores: Every query with every key. (Q, K)
        top_k: At least 1.
    """
    if top_k < scores.shape[1]:
        kth_best = np.partition(scores, -top_k, axis=1)[:, -top_k]
        query, key = np.nonzero(scores >= kth_best[:, None])
    else:
        query, key = np.divmod(np.arange(scores.size), scores.shape[1])
    return Shortlist(query=query, key=key, score=scores[query, key])


def score_all(queries: F32, keys: F32) -> F32:
    """Gives the score of every query with every key, as `score_pairs` defines it. (Q, K)."""
    scores: F32 = np.vecdot(queries[:, None, :], keys[None, :, :])
    return scores + np.float32(0)


def score_pairs(left: F32, right: F32, left_at: I64, right_at: I64) -> F32:
    """Gives the inner products of pairs of rows: the definition of a score.

    Each pair is reduced by a call of its own, so that its rounding depends on nothing but its two vectors; a negative
    zero becomes zero.

    Args:
        left: (n, d)
        right: (m, d)
        left_at: Row of `left` of each pair. (P,)
        right_at: Row of `right` of each pair. (P,)
    """
    scores = np.empty(len(left_at), np.float32)
    for start in range(0, len(left_at), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        np.vecdot(left.take(left_at[part], axis=0), right.take(right_at[part], axis=0), out=scores[part])
    return scores + np.float32(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRows:
    """A user's rows collapsed to distinct vectors."""

    node: U32
    """A node that has the vector, ascending: where to read it in the table. (K,)"""
    of_rank: I64
    """Key of the behavior at each position of the time order. (N,)"""
    start: I64
    """Where each key's list starts in `rank`, and the end. (K + 1,)"""
    rank: I64
    """Positions in time order of each key's behaviors, newest first. (N,)"""

    @staticmethod
    def of(runs: NodeRuns, representative: U32) -> KeyedRows:
        """Collapses a user's rows. Cost: O(N log N).

        Args:
            runs: The user's history.
            representative: For each node of the taxonomy, and for "unmapped", the first node of an equal vector.
        """
        node, key_of_run = np.unique(representative[runs.node], return_inverse=True)
        num_rows = runs.columns.num_behaviors
        of_rank = np.empty(num_rows, np.int64)
        of_rank[runs.columns.rank] = np.repeat(key_of_run, np.diff(runs.start))
        newest_first = np.sort(of_rank * num_rows + np.arange(num_rows - 1, -1, -1))
        count = np.bincount(of_rank, minlength=len(node))
        rank = num_rows - 1 + np.repeat(np.arange(len(node)) * num_rows, count) - newest_first
        start = np.concatenate(([0], np.cumsum(count)))
        return KeyedRows(node=node, of_rank=of_rank, start=start, rank=rank)


def soft_search(shortlist: Shortlist, rows: KeyedRows, num_queries: int, top_k: int) -> tuple[I64, I64]:
    """Ranks a shortlist's behaviors by (score, newest first) and keeps the first `top_k` of each query.

    Args:
        shortlist: What a `KeySearch` proposed.
        rows: The behaviors behind the keys.
        num_queries: Number of queries Q.
        top_k: Behaviors per query.

    Returns:
        Where each query's list starts, and the end, (Q + 1,); and the behaviors as positions in time order.
    """
    order = np.argsort(shortlist.query.astype(np.uint64) << np.uint64(32) | _descending(shortlist.score))
    query, key, score = shortlist.query[order], shortlist.key[order], shortlist.score[order]
    size = np.minimum(np.diff(rows.start)[key], top_k)
    query_start = np.searchsorted(query, np.arange(num_queries + 1))
    before = np.concatenate(([0], np.cumsum(size)))[:-1]
    before -= before[np.minimum(query_start[query], len(query) - 1)] if len(query) else 0
    # The last key to begin before the quota is full sets the score to beat; keys that tie with it compete by time.
    begins = before < top_k
    last = query_start[:-1] + np.bincount(query[begins], minlength=num_queries) - 1
    take = score >= score[last[query]]
    query, key, score, size = query[take], key[take], score[take], size[take]
    tier = np.cumsum(np.concatenate(([True], (query[1:] != query[:-1]) | (score[1:] != score[:-1])))[: len(query)])
    owner, at = expand_ranges(rows.start[key], size)
    num_rows = max(len(rows.rank), 1)
    final = np.sort(tier[owner] * num_rows + (num_rows - 1 - rows.rank[at]))
    query_of_tier = np.empty(int(tier[-1]) + 1 if len(tier) else 1, np.int64)
    query_of_tier[tier] = query
    owner = query_of_tier[final // num_rows]
    kept = position_in_group(owner) < top_k
    return np.searchsorted(owner[kept], np.arange(num_queries + 1)), num_rows - 1 - final[kept] % num_rows


def _descending(scores: F32) -> U64:
    """Gives unsigned numbers that ascend as the scores descend, 32 bits of them, of the same shape."""
    bits = scores.view(np.uint32)
    ascending = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    return (~ascending).astype(np.uint64)
