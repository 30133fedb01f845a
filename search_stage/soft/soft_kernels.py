"""Kernels of soft search: fast sums propose keys, and of what they propose the best by score are kept.

The fast sums are a matrix product of a block of keys and some queries, BLAS's by way of numba, which finds it in scipy.
Source of the bound between the fast sums that propose and the score: |fl(x.y) - x.y| <= d u |x|.|y| + O(u^2) for any
order of summation, u = eps / 2 (Higham 2002, section 3.1).
"""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.kernels.compiled import kernel, kernel_fastmath, kernel_inline
from search_stage.kernels.sorting import smallest
from search_stage.kernels.vector_ops import at_least, lowest_bit, prefetch
from search_stage.kernels.widths import WORD
from search_stage.soft.score_kernels import pack, score, score_of

if TYPE_CHECKING:
    from store.types import F32, I64, U32, U64

_KEYS_AT_ONCE = 128
_QUERIES_AT_ONCE = 64
"""Few enough for OpenBLAS to multiply them with a block in the thread it is called in, up to 32 dimensions."""
_AHEAD = 64
"""Memory is asked for a key's vector so many keys before it is read."""
_LINE = 16
"""Numbers in a line of the cache."""
_ONE = np.uint64(1)
_SAMPLE_OF = 4
"""One key in so many is in the sample at most."""
_MOST_SAMPLED = 24
"""Blocks of keys in a sample."""


@kernel
def hope_for(table: F32, keys: U32, queries: F32, who: I64, margin: F32, top_k: int, least: F32, hope: F32) -> None:
    """Sets a bar that the best keys should pass and few others, from the sums of some keys spread over all.

    It is a hope, and proven or not when all keys were looked at: what is below it cannot beat a score of one margin
    above it. `least` is set to the bar, and `hope` to the score that the `top_k`-th best must reach to prove it; both
    stay where there are too few keys to tell. The other names are those of `scan_keys`.
    """
    num_blocks = min(len(keys) // (_SAMPLE_OF * _KEYS_AT_ONCE), _MOST_SAMPLED)
    if num_blocks == 0:
        return
    # Of the best keys so many should be in the sample, give or take three times the spread of a binomial.
    mean = top_k * num_blocks * _KEYS_AT_ONCE / len(keys)
    wanted = int(mean + 3 * np.sqrt(mean)) + 2
    if wanted > num_blocks * _KEYS_AT_ONCE // 2:
        return
    chosen, block, sums = queries[who], _new_block(table), _new_sums()
    every_sum = sums.ravel()
    highest = np.full((len(who), wanted), -np.inf, np.float32)
    sample = keys[:: len(keys) // (num_blocks * _KEYS_AT_ONCE)]
    for number in range(num_blocks):
        start = number * _KEYS_AT_ONCE
        _load(table, sample, start, start + _KEYS_AT_ONCE, chosen, block)
        for first in range(0, len(who), _QUERIES_AT_ONCE):
            some = chosen[first : first + _QUERIES_AT_ONCE]
            _sum(table, sample, start, start + _KEYS_AT_ONCE, some, block, sums)
            for at in range(len(some)):
                _keep_highest(every_sum, at * _KEYS_AT_ONCE, highest[first + at])
    for at in range(len(who)):
        least[who[at]] = highest[at, 0]
        hope[who[at]] = highest[at, 0] + margin[who[at]]


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
def scan_keys(
    table: F32,
    keys: U32,
    newest: U32,
    queries: F32,
    who: I64,
    margin: F32,
    top_k: int,
    best: U64,
    size: I64,
    least: F32,
) -> None:
    """Looks through some keys for some queries, keeping the best of each; call it again for more keys.

    A fast sum proposes a key where it could reach the `top_k`-th best score, rounding included; then it gets its score.

    Args:
        table: Vectors. (n, d)
        keys: Row of each key in `table`. (K,)
        newest: Position in time order of each key's newest behavior. (K,)
        queries: (Q, d)
        who: Queries that look. (W,)
        margin: Largest difference between a fast sum and a score, of each query. (Q,)
        top_k: At least 1.
        best: Packed keys found so far; mutated. (Q, room), room at least `top_k + 129`.
        size: How many of them; mutated. (Q,)
        least: What a fast sum must reach; mutated. (Q,)
    """
    cell = np.empty(1, np.float32)
    bits, kept = cell.view(np.uint32), np.empty(top_k, np.uint64)
    chosen, block, sums = queries[who], _new_block(table), _new_sums()
    every_sum = sums.ravel()
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        stop = min(start + _KEYS_AT_ONCE, len(keys))
        _load(table, keys, start, stop, chosen, block)
        for first in range(0, len(who), _QUERIES_AT_ONCE):
            some = chosen[first : first + _QUERIES_AT_ONCE]
            _sum(table, keys, start, stop, some, block, sums)
            for at in range(len(some)):
                query = who[first + at]
                bar, end = least[query], size[query]
                for base in range(0, _KEYS_AT_ONCE, WORD):
                    word = at_least(every_sum, at * _KEYS_AT_ONCE + base, bar)
                    while word:
                        key = start + base + lowest_bit(word)
                        word &= word - _ONE
                        if key < stop:  # what is behind are sums of an earlier block
                            value = score(queries, query, table, keys[key])
                            best[query, end] = pack(value, newest[key], bits, cell)
                            end += 1
                if end > best.shape[1] - _KEYS_AT_ONCE:
                    reached = _keep_best(best[query], end, kept, bits, cell)
                    least[query] = max(bar, reached - margin[query])
                    end = top_k
                size[query] = end


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
        if start + place + _AHEAD < len(keys):
            for at in range(0, table.shape[1], _LINE):
                prefetch(table, (int(keys[start + place + _AHEAD]), at))
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
def take_best(best: U64, size: I64, hope: F32, top_k: int) -> tuple[U64, I64]:
    """Gives the best keys of each query, and the queries whose bar was too high to prove them.

    Args:
        best: Packed keys found. (Q, room)
        size: How many of them. (Q,)
        hope: Score that the `top_k`-th best must reach; see `hope_for`. (Q,)
        top_k: At least 1.

    Returns:
        Packed keys, best first, all ones where there are no more, (Q, top_k); queries, ascending.
    """
    cell = np.empty(1, np.float32)
    bits = cell.view(np.uint32)
    out = np.full((len(best), top_k), ~np.uint64(0), np.uint64)
    unproven, count = np.empty(len(best), np.int64), 0
    for query in range(len(best)):
        smallest(best[query], size[query], out[query])
        reached = score_of(out[query, -1], bits, cell) if size[query] >= top_k else np.float32(-np.inf)
        if reached < hope[query]:
            unproven[count] = query
            count += 1
    return out, unproven[:count]
