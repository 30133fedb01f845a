"""Kernels of soft search: fast sums propose keys, and of what they propose the best by score are kept.

The fast sums are a matrix product of a block of keys and some queries, BLAS's by way of numba, which finds it in scipy.
Source of the bound between the fast sums that propose and the score: |fl(x.y) - x.y| <= d u |x|.|y| + O(u^2) for any
order of summation, u = eps / 2 (Higham 2002, section 3.1).
"""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.kernels.sorting import smallest
from search_stage.kernels.vector_ops import at_least, lowest_bit, prefetch
from search_stage.kernels.widths import WORD
from search_stage.soft.score_kernels import pack, score, score_of
from store.compiled import kernel, kernel_fastmath, kernel_inline, read_only

if TYPE_CHECKING:
    from store.types import F32, I64, U32, U64

_KEYS_AT_ONCE = 128
_QUERIES_AT_ONCE = 64
"""Few enough for OpenBLAS to multiply them with a block in the thread it is called in, up to 32 dimensions."""
_PREFETCH_KEYS = 64
"""Memory is asked for a key's vector this many keys before it is read."""
_LINE = 16
"""Numbers in a line of the cache."""
_ONE = np.uint64(1)
_SPARE = 2 * _KEYS_AT_ONCE
"""Room for the keys that a block may bring, and as many before the next selection."""
_SAMPLE_OF = 4
"""At most one key in 4 is in the sample."""
_MAX_SAMPLE_BLOCKS = 24


class KeyRows(NamedTuple):
    """Keys and their vectors."""

    table: F32
    """Read-only. (n, d)"""
    row: U32
    """Row of each key in `table`. (K,)"""
    newest: U32
    """Position in time order of each key's newest behavior. (K,)"""


class BestKeys(NamedTuple):
    """The best keys found so far for each query, and what a key must reach to be among them. Scans mutate it."""

    queries: F32
    """Read-only. (Q, d)"""
    margin: F32
    """Largest difference between a fast sum and a score. (Q,)"""
    top_k: int
    packed: U64
    """Keys found; beyond `top_k` there is room for what a block may bring. (Q, top_k + `_SPARE`)"""
    size: I64
    """How many of them. (Q,)"""
    bar: F32
    """What a fast sum must reach for its key to be scored. (Q,)"""
    required_score: F32
    """What the `top_k`-th best score must reach in the end to prove an estimated bar. (Q,)"""

    @staticmethod
    def none(queries: F32, margin: F32, top_k: int) -> BestKeys:
        """Begins with no keys and no bars."""
        no_bar = np.full(len(queries), -np.inf, np.float32)
        packed = np.empty((len(queries), top_k + _SPARE), np.uint64)
        size = np.zeros(len(queries), np.int64)
        return BestKeys(read_only(queries), margin, top_k, packed, size, no_bar, no_bar.copy())


@kernel
def estimate_bar(table: F32, keys: U32, query_rows: I64, best: BestKeys) -> None:
    """Sets an optimistic bar, that the best keys should pass and few others, from the sums of a sample of the keys.

    It is verified at the end by `take_best`: what is below the bar cannot beat a score of one margin above it, which is
    the `required_score`. Where there are too few keys for an estimate, both stay.

    Args:
        table: Vectors, read-only. (n, d)
        keys: Row of each key in `table`. (K,)
        query_rows: Queries that get a bar. (W,)
        best: Mutated.
    """
    num_blocks = min(len(keys) // (_SAMPLE_OF * _KEYS_AT_ONCE), _MAX_SAMPLE_BLOCKS)
    if num_blocks == 0:
        return
    # How many of the best keys should be in the sample, plus three times the spread of a binomial.
    mean = best.top_k * num_blocks * _KEYS_AT_ONCE / len(keys)
    wanted = int(mean + 3 * np.sqrt(mean)) + 2
    if wanted > num_blocks * _KEYS_AT_ONCE // 2:
        return
    chosen, block, sums = best.queries[query_rows], _new_block(table), _new_sums()
    every_sum = sums.ravel()
    highest = np.full((len(query_rows), wanted), -np.inf, np.float32)
    sample = keys[:: len(keys) // (num_blocks * _KEYS_AT_ONCE)]
    for number in range(num_blocks):
        start = number * _KEYS_AT_ONCE
        _load(table, sample, start, start + _KEYS_AT_ONCE, chosen, block)
        for first in range(0, len(query_rows), _QUERIES_AT_ONCE):
            some = chosen[first : first + _QUERIES_AT_ONCE]
            _sum(table, sample, start, start + _KEYS_AT_ONCE, some, block, sums)
            for at in range(len(some)):
                _keep_highest(every_sum, at * _KEYS_AT_ONCE, highest[first + at])
    for at in range(len(query_rows)):
        query = query_rows[at]
        best.bar[query] = highest[at, 0]
        best.required_score[query] = highest[at, 0] + best.margin[query]


@kernel_inline
def _keep_highest(sums: F32, start: int, highest: F32) -> None:
    """Puts the sums of a block among the highest so far, which ascend."""
    for base in range(start, start + _KEYS_AT_ONCE, WORD):
        word = at_least(sums, base, highest[0])
        while word:
            value = sums[base + lowest_bit(word)]
            word &= word - _ONE
            place = 0
            while place + 1 < len(highest) and highest[place + 1] < value:
                highest[place] = highest[place + 1]
                place += 1
            if value > highest[place]:
                highest[place] = value


@kernel
def scan_keys(keys: KeyRows, query_rows: I64, best: BestKeys) -> None:
    """Looks through some keys for some queries, keeping the best of each; call it again for more keys.

    A fast sum proposes a key where it could reach the `top_k`-th best score, rounding included; then it gets its score.

    Args:
        keys: What to look through.
        query_rows: Queries that look. (W,)
        best: Mutated.
    """
    table, rows, newest = keys.table, keys.row, keys.newest
    queries, packed, bars, sizes = best.queries, best.packed, best.bar, best.size
    cell = np.empty(1, np.float32)
    bits, kept = cell.view(np.uint32), np.empty(best.top_k, np.uint64)
    chosen, block, sums = queries[query_rows], _new_block(table), _new_sums()
    every_sum = sums.ravel()
    for start in range(0, len(rows), _KEYS_AT_ONCE):
        stop = min(start + _KEYS_AT_ONCE, len(rows))
        _load(table, rows, start, stop, chosen, block)
        for first in range(0, len(query_rows), _QUERIES_AT_ONCE):
            some = chosen[first : first + _QUERIES_AT_ONCE]
            _sum(table, rows, start, stop, some, block, sums)
            for at in range(len(some)):
                query = query_rows[first + at]
                bar, end = bars[query], sizes[query]
                for base in range(0, _KEYS_AT_ONCE, WORD):
                    word = at_least(every_sum, at * _KEYS_AT_ONCE + base, bar)
                    while word:
                        key = start + base + lowest_bit(word)
                        word &= word - _ONE
                        if key < stop:  # what is behind are sums of an earlier block
                            value = score(queries, query, table, rows[key])
                            packed[query, end] = pack(value, newest[key], bits, cell)
                            end += 1
                if end > packed.shape[1] - _KEYS_AT_ONCE:
                    reached = _keep_best(packed[query], end, kept, bits, cell)
                    bars[query] = max(bar, reached - best.margin[query])
                    end = best.top_k
                sizes[query] = end


@kernel
def _new_block(table: F32) -> F32:
    return np.zeros((table.shape[1], _KEYS_AT_ONCE), np.float32)


@kernel
def _new_sums() -> F32:
    return np.empty((_QUERIES_AT_ONCE, _KEYS_AT_ONCE), np.float32)


@kernel
def _keep_best(found: U64, count: int, kept: U64, bits: U32, cell: F32) -> np.float32:
    """Keeps the best of what was found, as many as `kept` has room for, and gives the last one's score."""
    smallest(found, count, kept)
    for at in range(len(kept)):
        found[at] = kept[at]
    return score_of(kept[-1], bits, cell)


@kernel
def _load(table: F32, keys: U32, start: int, stop: int, queries: F32, block: F32) -> None:
    """Copies the vectors of some keys to the columns of a block; one query alone does not need it."""
    if len(queries) == 1:
        return
    for place in range(stop - start):
        if start + place + _PREFETCH_KEYS < len(keys):
            for at in range(0, table.shape[1], _LINE):
                prefetch(table, (int(keys[start + place + _PREFETCH_KEYS]), at))
        row = keys[start + place]
        for at in range(table.shape[1]):
            block[at, place] = table[row, at]


@kernel
def _sum(table: F32, keys: U32, start: int, stop: int, queries: F32, block: F32, sums: F32) -> None:
    """Gives the fast sums of some queries with a block of keys."""
    if len(queries) > 1:
        np.dot(queries, block, sums[: len(queries)])
        return
    for place in range(stop - start):
        sums[0, place] = _sum_one(table, keys[start + place], queries)


@kernel_fastmath
def _sum_one(table: F32, row: int, queries: F32) -> np.float32:
    total = np.float32(0)
    for at in range(table.shape[1]):
        total += queries[0, at] * table[row, at]
    return total


@kernel
def take_best(best: BestKeys) -> tuple[U64, I64]:
    """Gives the best keys of each query, and the queries whose estimated bar was too high to prove them.

    Returns:
        Packed keys, best first, all ones where there are no more, (Q, top_k); queries, ascending.
    """
    cell = np.empty(1, np.float32)
    bits = cell.view(np.uint32)
    out = np.full((len(best.size), best.top_k), ~np.uint64(0), np.uint64)
    unproven, count = np.empty(len(best.size), np.int64), 0
    for query in range(len(best.size)):
        smallest(best.packed[query], best.size[query], out[query])
        is_full = best.size[query] >= best.top_k
        reached = score_of(out[query, -1], bits, cell) if is_full else np.float32(-np.inf)
        if reached < best.required_score[query]:
            unproven[count] = query
            count += 1
    return out, unproven[:count]
