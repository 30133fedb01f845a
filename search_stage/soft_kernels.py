"""Kernels of soft search: the score, and the selection of the best keys.

What is selected are keys, packed into 64 bits so that one comparison orders them: the score, then the newest behavior::

    63            32 31             0
    score, inverted   rank, inverted        smaller is better

Source of the bound between the fast sums that propose and the score: |fl(x.y) - x.y| <= d u |x|.|y| + O(u^2) for any
order of summation, u = eps / 2 (Higham 2002, section 3.1).
"""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.compiled import compiled, compiled_to_propose

if TYPE_CHECKING:
    from store.types import F32, I32, I64, U32, U64

LANES = 8
"""Partial sums of a score."""
_KEYS_AT_ONCE = 128
_GROUPS = 32
"""Groups of a block of keys, of which only the best counts in a sample."""
_SAMPLE_OF = 5
"""One key in so many is in the sample at most."""
_MOST_SAMPLED = 24
"""Blocks of keys in a sample."""
_ONES = np.uint64(0xFFFFFFFF)
_SIGN = np.uint32(0x80000000)
_RANK_BITS = np.uint64(32)


@compiled
def score(left: F32, i: int, right: F32, j: int) -> np.float32:
    """Gives the inner product of row i of one table and row j of another: the definition of a score.

    Eight partial sums, the k-th of the products at k, k + 8, k + 16 ..., added up in their order; each product and each
    sum is rounded to float32, and a negative zero becomes zero.

    Args:
        left: (n, d)
        i: Row of `left`.
        right: (m, d)
        j: Row of `right`.
    """
    dim = left.shape[1]
    whole = dim // LANES * LANES
    a = b = c = d = e = f = g = h = np.float32(0)
    for at in range(0, whole, LANES):
        a += left[i, at] * right[j, at]
        b += left[i, at + 1] * right[j, at + 1]
        c += left[i, at + 2] * right[j, at + 2]
        d += left[i, at + 3] * right[j, at + 3]
        e += left[i, at + 4] * right[j, at + 4]
        f += left[i, at + 5] * right[j, at + 5]
        g += left[i, at + 6] * right[j, at + 6]
        h += left[i, at + 7] * right[j, at + 7]
    rest = (a, b, c, d, e, f, g, h)
    total = np.float32(0)
    for lane in range(LANES):
        part = rest[lane]
        if whole + lane < dim:
            part += left[i, whole + lane] * right[j, whole + lane]
        total += part
    return total


@compiled
def pack(value: np.float32, rank: int, bits: U32, cell: F32) -> np.uint64:
    """Packs a score and the position of the newest behavior; `bits` and `cell` are one and the same 4 bytes."""
    cell[0] = value
    pattern = bits[0]
    ascending = ~pattern if pattern & _SIGN else pattern | _SIGN
    return (np.uint64(~ascending) & _ONES) << _RANK_BITS | (_ONES - np.uint64(rank))


@compiled
def hope_for(table: F32, keys: U32, queries: F32, who: I64, margin: F32, top_k: int, least: F32, hope: F32) -> None:
    """Sets a bar that the best keys should pass and few others, from the sums of some keys spread over all.

    It is a hope, and proven or not when all keys were looked at: what is below it cannot beat a score of one margin
    above it. `least` is set to the bar, and `hope` to the score that the `top_k`-th best must reach to prove it; both
    stay where there are too few keys to tell. The other names are those of `scan_keys`.
    """
    num_blocks = min(len(keys) // (_SAMPLE_OF * _KEYS_AT_ONCE), _MOST_SAMPLED)
    if num_blocks == 0:
        return
    # Of the best keys so many should be in the sample, give or take twice the spread of a binomial.
    mean = top_k * num_blocks * _KEYS_AT_ONCE / len(keys)
    wanted = int(mean + 2 * np.sqrt(mean)) + 2
    if wanted > num_blocks * _GROUPS // 2:
        return
    block, sums = np.zeros((table.shape[1], _KEYS_AT_ONCE), np.float32), np.zeros((2, _KEYS_AT_ONCE), np.float32)
    highest = np.full((len(who), wanted), -np.inf, np.float32)
    sample = keys[:: len(keys) // (num_blocks * _KEYS_AT_ONCE)]
    for number in range(num_blocks):
        start = number * _KEYS_AT_ONCE
        if len(who) > 1:
            _load(table, sample, start, start + _KEYS_AT_ONCE, block)
        for at in range(0, len(who), 2):
            _sum(table, sample, start, start + _KEYS_AT_ONCE, queries, who, at, block, sums)
            for part in range(min(2, len(who) - at)):
                _keep_highest(sums[part], highest[at + part])
    for at in range(len(who)):
        least[who[at]] = highest[at, 0]
        hope[who[at]] = highest[at, 0] + margin[who[at]]


@compiled
def _keep_highest(row: F32, highest: F32) -> None:
    """Puts the best sum of each group among the highest so far, which ascend."""
    for group in range(_GROUPS):
        value = row[group]
        for at in range(group + _GROUPS, _KEYS_AT_ONCE, _GROUPS):
            value = row[at] if row[at] > value else value
        if value > highest[0]:
            place = 0
            while place + 1 < len(highest) and highest[place + 1] < value:
                highest[place] = highest[place + 1]
                place += 1
            highest[place] = value


@compiled
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
    bits, passed = cell.view(np.uint32), np.empty(_KEYS_AT_ONCE + 1, np.int64)
    block, sums = np.zeros((table.shape[1], _KEYS_AT_ONCE), np.float32), np.zeros((2, _KEYS_AT_ONCE), np.float32)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        stop = min(start + _KEYS_AT_ONCE, len(keys))
        if len(who) > 1:
            _load(table, keys, start, stop, block)
        for at in range(0, len(who), 2):
            _sum(table, keys, start, stop, queries, who, at, block, sums)
            for part in range(min(2, len(who) - at)):
                query, row = who[at + part], sums[part]
                bar = least[query]
                if not _any_at_least(row, bar):
                    continue
                count = 0
                for place in range(stop - start):
                    # Written always and counted where it holds: a branch that cannot be foretold costs more.
                    passed[count] = start + place
                    count += int(row[place] >= bar)
                _add_keys(table, keys, newest, queries, query, passed, count, best, size, bits, cell)
                if size[query] > best.shape[1] - _KEYS_AT_ONCE:
                    reached = _keep_best(best[query], size[query], top_k, bits, cell)
                    least[query] = max(bar, reached - margin[query])
                    size[query] = top_k


@compiled
def _sum(table: F32, keys: U32, start: int, stop: int, queries: F32, who: I64, at: int, block: F32, sums: F32) -> None:
    """Gives the fast sums of one query or two with a block of keys; one alone does not wait for the block."""
    if len(who) == 1:
        for place in range(stop - start):
            sums[0, place] = _sum_one(table, keys[start + place], queries, who[0])
    else:
        _sum_two(block, queries[who[at]], queries[who[min(at + 1, len(who) - 1)]], sums)


@compiled
def _add_keys(
    table: F32,
    keys: U32,
    newest: U32,
    queries: F32,
    query: int,
    passed: I64,
    count: int,
    best: U64,
    size: I64,
    bits: U32,
    cell: F32,
) -> None:
    end = size[query]
    for number in range(count):
        key = passed[number]
        best[query, end + number] = pack(score(queries, query, table, keys[key]), newest[key], bits, cell)
    size[query] = end + count


@compiled
def _keep_best(found: U64, count: int, top_k: int, bits: U32, cell: F32) -> np.float32:
    """Sorts what was found and gives the `top_k`-th best score."""
    sort_up(found[:count])
    pattern = np.uint32(~np.uint32((found[top_k - 1] >> _RANK_BITS) & _ONES))
    bits[0] = pattern ^ _SIGN if pattern & _SIGN else ~pattern
    reached: np.float32 = cell[0]
    return reached


@compiled_to_propose
def _sum_one(table: F32, row: int, queries: F32, query: int) -> np.float32:
    total = np.float32(0)
    for at in range(table.shape[1]):
        total += queries[query, at] * table[row, at]
    return total


@compiled
def _load(table: F32, keys: U32, start: int, stop: int, block: F32) -> None:
    for place in range(stop - start):
        row = keys[start + place]
        for at in range(table.shape[1]):
            block[at, place] = table[row, at]


@compiled_to_propose
def _sum_two(block: F32, a: F32, b: F32, sums: F32) -> None:
    """Multiplies two queries with a block of keys, eight dimensions at a time, so that sums stay in registers."""
    one, two = sums[0], sums[1]
    for place in range(_KEYS_AT_ONCE):
        one[place] = two[place] = np.float32(0)
    whole = len(a) // 8 * 8
    for i in range(0, whole, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = a[i], a[i + 1], a[i + 2], a[i + 3], a[i + 4], a[i + 5], a[i + 6], a[i + 7]
        b0, b1, b2, b3, b4, b5, b6, b7 = b[i], b[i + 1], b[i + 2], b[i + 3], b[i + 4], b[i + 5], b[i + 6], b[i + 7]
        k0, k1, k2, k3 = block[i], block[i + 1], block[i + 2], block[i + 3]
        k4, k5, k6, k7 = block[i + 4], block[i + 5], block[i + 6], block[i + 7]
        for t in range(_KEYS_AT_ONCE):
            x0, x1, x2, x3, x4, x5, x6, x7 = k0[t], k1[t], k2[t], k3[t], k4[t], k5[t], k6[t], k7[t]
            one[t] += (a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3) + (a4 * x4 + a5 * x5 + a6 * x6 + a7 * x7)
            two[t] += (b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3) + (b4 * x4 + b5 * x5 + b6 * x6 + b7 * x7)
    for i in range(whole, len(a)):
        key = block[i]
        for t in range(_KEYS_AT_ONCE):
            one[t] += a[i] * key[t]
            two[t] += b[i] * key[t]


@compiled
def _any_at_least(row: F32, least: np.float32) -> bool:
    some = np.uint8(0)
    for place in range(_KEYS_AT_ONCE):
        some |= np.uint8(row[place] >= least)
    return bool(some)


@compiled
def sort_up(values: U64) -> None:
    """Sorts ascending. Shell sort: it is called for some hundred values at a time."""
    gap = 1
    while gap < len(values) // 2:
        gap = gap * 9 // 4 + 1
    while gap > 0:
        for at in range(gap, len(values)):
            value = values[at]
            hole = at
            while hole >= gap and values[hole - gap] > value:
                values[hole] = values[hole - gap]
                hole -= gap
            values[hole] = value
        gap = max(gap * 4 // 9, 1) if gap > 1 else 0


@compiled
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
        reached = np.float32(-np.inf)
        if size[query] >= top_k:
            reached = _keep_best(best[query], size[query], top_k, bits, cell)
        else:
            sort_up(best[query, : size[query]])
        for at in range(min(size[query], top_k)):
            out[query, at] = best[query, at]
        if reached < hope[query]:
            unproven[count] = query
            count += 1
    return out, unproven[:count]


@compiled
def score_listed(queries: F32, vectors: F32, query: I64, start: I64, position: I32, out: F32) -> None:
    """Scores the behaviors of some lists.

    Args:
        queries: (Q, d)
        vectors: Of the behaviors. (U, d)
        query: Of each list. (G,)
        start: Where each list starts in `position`, and the end. (G + 1,)
        position: Behavior of each entry. (M,)
        out: Mutated. (M,)
    """
    for at in range(len(query)):
        for entry in range(start[at], start[at + 1]):
            out[entry] = score(queries, query[at], vectors, position[entry])
