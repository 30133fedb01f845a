"""Answers of hard search while they are made: numbers that sort by time, merged instead of sorted.

An entry of an answer is a position in the time order and, in `_LEVEL_BITS` low bits, the match level.
"""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.compiled import kernel, kernel_inline

if TYPE_CHECKING:
    from store.types import I64, U32

_LEVEL_BITS = 8
_LEVELS = (1 << _LEVEL_BITS) - 1
_RANK_BITS = 32
_NEWEST = (1 << _RANK_BITS) - 1
_ONE = np.uint64(1)
_BEFORE_ALL = -1
"""Less than any entry."""


@kernel_inline
def merge_new(newest: U32, level: int, quota: int, entry: I64, begin: int, end: int, taken: I64) -> int:
    """Merges those of the newest rows of a level that are new to an answer into it, up to the quota.

    The answer stands in `entry` from `begin` to `end`, newest first, and does so afterwards. Gives its new end. No two
    of `newest` are the same.
    """
    num_taken, room = end - begin, quota - (end - begin)
    if num_taken == 0:
        size = min(len(newest), room)
        for at in range(size):
            entry[begin + at] = np.int64(newest[at]) << _LEVEL_BITS | level
        return begin + size
    for at in range(num_taken):
        taken[at] = entry[begin + at]
    count, at = begin, 0
    for place in range(len(newest)):
        rank = np.int64(newest[place])
        while at < num_taken and taken[at] >> _LEVEL_BITS >= rank:
            entry[count] = taken[at]
            count, at = count + 1, at + 1
        if at > 0 and taken[at - 1] >> _LEVEL_BITS == rank:
            continue
        if room == 0:
            break
        entry[count] = rank << _LEVEL_BITS | level
        count, room = count + 1, room - 1
    for left in range(at, num_taken):
        entry[count] = taken[left]
        count += 1
    return count


@kernel
def join_domains(start: I64, entry: I64, most: int, cap: int) -> tuple[I64, I64, I64]:
    """Puts the answers of the domains together, question by question, oldest first; see `hard_kernels.py`.

    Args:
        start: Where each domain's answer to each question starts in `entry`, and the end. (D, K + 1)
        entry: Newest first within an answer.
        most: Entries of a question at most.
        cap: Entries of a question to keep, by (level, newest first).

    Returns:
        Where each question's answer starts in the other two, and the end, (K + 1,); positions in the time order; match
        levels.
    """
    num_domains, num_keys = len(start), start.shape[1] - 1
    total = start[-1, num_keys] if num_domains else 0
    out_start, count = np.zeros(num_keys + 1, np.int64), 0
    rank, level = np.empty(total, np.int64), np.empty(total, np.int64)
    joined = np.empty(1 + most, np.int64)
    joined[0] = _BEFORE_ALL
    for key in range(num_keys):
        size = 0
        for domain in range(num_domains):
            size = _merge_up(joined, size, entry[start[domain, key] : start[domain, key + 1]])
        answer = joined[1 : 1 + size]
        if size > cap:
            _keep_nearest(answer, cap)
            size = cap
        for at in range(size):
            rank[count + at], level[count + at] = answer[at] >> _LEVEL_BITS, answer[at] & _LEVELS
        count += size
        out_start[key + 1] = count
    return out_start, rank[:count], level[:count]


@kernel_inline
def _merge_up(joined: I64, size: int, part: I64) -> int:
    """Merges entries, the largest first, into `size` others, the smallest first; gives their number.

    The others stand in `joined` behind its first place, which holds `_BEFORE_ALL`.
    """
    count = len(part)
    if size == 0:
        for place in range(count):
            joined[count - place] = part[place]
        return count
    # Of numbers without a sign the compiler knows that they do not count from an array's end.
    left, at, end = np.uint64(size), np.uint64(0), np.uint64(count)
    while at < end:
        old, new = joined[left], part[at]
        is_old = np.uint64(old > new)
        joined[left + end - at] = max(old, new)
        left, at = left - is_old, at + _ONE - is_old
    return size + count


@kernel
def _keep_nearest(joined: I64, cap: int) -> None:
    """Puts the first `cap` of an answer by (level, newest first) in front, oldest first."""
    order = np.sort((joined & _LEVELS) << _RANK_BITS | (_NEWEST - (joined >> _LEVEL_BITS)))[:cap]
    joined[:cap] = np.sort((_NEWEST - (order & _NEWEST)) << _LEVEL_BITS | order >> _RANK_BITS)
