"""Kernels of hierarchical hard search; `hard.py` says what they answer."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.compiled import compiled

if TYPE_CHECKING:
    from store.types import I64, U16, U32, U64, Bool

_BLOCK = 64
_DEEPEST = 255
_RANK_BITS = 32
_RANK = (1 << _RANK_BITS) - 1
_STEP_COST = 4
"""A step of a walk through the time order, in rows of a scan (measured: 1.0 to 1.5 ns against 0.3 ns)."""


class Rows(NamedTuple):
    """Which of a user's rows one domain's policy lets pass."""

    rank: U32
    """Position of each row in the time order. (N,)"""
    order: U32
    """Its inverse. (N,)"""
    scene: U16
    """Code of each row, (N,), or empty where every scene passes."""
    passing_scene: Bool
    """By scene code; empty = every scene passes."""
    first: int
    """Rows at or after this position in the time order."""
    cut: int
    """And before this one."""


class Questions(NamedTuple):
    """The distinct questions of a request: a candidate's own rows, and the categories it is searched under."""

    own_low: I64
    """First row of each own range. (P,)"""
    own_high: I64
    """End of each. (P,)"""
    own_section: I64
    """(P,)"""
    own_first: I64
    """Where each question's own ranges start. (K,)"""
    own_end: I64
    """Where they end. (K,)"""
    chain_first: I64
    """Where each question's chains start. (K,)"""
    chain_end: I64
    """Where they end. (K,)"""
    chain: I64
    """Interval of each chain at each level, -1 = beyond the top; column 0 is not used. (X, L)"""
    low: I64
    """First row of each interval in each section. (A, S)"""
    high: I64
    """End. (A, S)"""


@compiled
def newest_rows(rows: Rows, lows: I64, highs: I64, passing: Bool, quota: int, out: I64) -> int:
    """Finds the newest rows of some ranges; writes their ranks, newest first, and gives their number.

    Few rows are looked at one by one. Where they are many they are a large part of all, and a walk through the time
    order from its end meets enough of them soon.

    Args:
        rows: The rows.
        lows: First row of each range. (R,)
        highs: End of each range. (R,)
        passing: Ranges to look at. (R,)
        quota: How many at most, 1 or more.
        out: Room for `4 * quota + 65` ranks.
    """
    ranges = np.empty((len(lows), 2), np.int64)
    used, total = 0, 0
    for part in range(len(lows)):
        if passing[part] and lows[part] < highs[part]:
            ranges[used, 0], ranges[used, 1] = lows[part], highs[part]
            used += 1
            total += highs[part] - lows[part]
    ranges = ranges[:used]
    if total <= 4 * quota:
        return min(_scan(rows, ranges, rows.first, quota, out), quota)
    span = rows.cut - rows.first
    if _STEP_COST * quota * span < total * total:
        return _walk(rows, ranges, quota, out)
    # Were the rows spread evenly over time, one and a half times the quota would be in this window.
    window = 3 * quota * span // (2 * total)
    while True:
        first = max(rows.cut - window, rows.first)
        count = _scan(rows, ranges, first, quota, out)
        if count >= quota or first == rows.first:
            return min(count, quota)
        window *= 4


@compiled
def _walk(rows: Rows, ranges: I64, quota: int, out: I64) -> int:
    count, every_scene = 0, len(rows.passing_scene) == 0
    for at in range(rows.cut - 1, rows.first - 1, -1):
        row = np.int64(rows.order[at])
        for part in range(len(ranges)):
            if ranges[part, 0] <= row < ranges[part, 1]:
                if every_scene or rows.passing_scene[rows.scene[row]]:
                    out[count] = at
                    count += 1
                break
        if count == quota:
            break
    return count


@compiled
def _scan(rows: Rows, ranges: I64, first: int, quota: int, out: I64) -> int:
    """Writes the newest rows at or after a position in the time order; gives how many were met, in part dropped."""
    count, met, least = 0, 0, np.int64(first)
    for part in range(len(ranges)):
        for start in range(ranges[part, 0], ranges[part, 1], _BLOCK):
            stop = min(start + _BLOCK, ranges[part, 1])
            if stop - start == _BLOCK and not _any_at_least(rows.rank[start:stop], np.uint32(least)):
                continue
            before = count
            for row in range(start, stop):
                # Written always and counted where it holds: a branch that cannot be foretold costs more.
                value = np.int64(rows.rank[row])
                out[count] = value
                count += int(value >= least) & int(value < rows.cut)
            if len(rows.passing_scene):
                count = _drop_scenes(rows, out, before, count)
            met += count - before
            if count > 4 * quota:
                sort_down(out, 0, count)
                count = quota
                least = out[quota - 1] + 1
    sort_down(out, 0, count)
    return met


@compiled
def _drop_scenes(rows: Rows, out: I64, start: int, stop: int) -> int:
    kept = start
    for at in range(start, stop):
        out[kept] = out[at]
        kept += int(rows.passing_scene[rows.scene[rows.order[out[at]]]])
    return kept


@compiled
def _any_at_least(block: U32, least: np.uint32) -> bool:
    # Of 64 comparisons of one width the compiler makes a few wide ones.
    some = np.uint8(0)
    for at in range(_BLOCK):
        some |= np.uint8(block[at] >= least)
    return bool(some)


@compiled
def sort_down(values: I64, start: int, stop: int) -> None:
    """Sorts a part of an array, descending. Shell sort with the gaps of Ciura (2001): a hundred values at a time."""
    gap = 1
    while gap < (stop - start) // 2:
        gap = gap * 9 // 4 + 1
    while gap > 0:
        for at in range(start + gap, stop):
            value = values[at]
            hole = at
            while hole - gap >= start and values[hole - gap] < value:
                values[hole] = values[hole - gap]
                hole -= gap
            values[hole] = value
        gap = max(gap * 4 // 9, 1) if gap > 1 else 0


@compiled
def climb_and_take(
    rows: Rows, questions: Questions, passing: Bool, quota: int, min_matches: int, max_level: int
) -> tuple[I64, I64]:
    """Answers every question for one domain.

    Args:
        rows: Which rows the policy lets pass.
        questions: What is asked.
        passing: The sections of the domain whose action the policy lets pass. (S,)
        quota: Rows per question at most, 1 or more.
        min_matches: Climb while fewer are found; at most the quota.
        max_level: The last level to climb to.

    Returns:
        Where each question's answer starts in the other one, and the end, (K + 1,); and each row as a number that
        descends by (level, newest first): 255 less the level in the upper bits, the position in time order in 32.
    """
    num_keys, num_intervals = len(questions.own_first), len(questions.low)
    quota = min(quota, rows.cut)
    scratch = np.empty(4 * quota + _BLOCK + 1, np.int64)
    # The newest rows of each interval, found when first asked for: of one, no more than the quota can be answered, for
    # fewer than `min_matches <= quota` rows lie below the stop level.
    list_start, list_end = np.full(num_intervals, -1, np.int64), np.zeros(num_intervals, np.int64)
    lists, listed = np.empty(quota, np.int64), 0
    is_taken = np.zeros((rows.cut >> 6) + 1, np.uint64)
    starts, answer, count = np.zeros(num_keys + 1, np.int64), np.empty(quota, np.int64), 0
    for key in range(num_keys):
        begin = count
        own = slice(questions.own_first[key], questions.own_end[key])
        passes = passing[questions.own_section[own]]
        found = newest_rows(rows, questions.own_low[own], questions.own_high[own], passes, quota, scratch)
        answer = _with_room(answer, count, found)
        count = _add(scratch, 0, found, 0, found, is_taken, answer, count)
        level = 0
        while count - begin < min_matches and level < max_level:
            level += 1
            taken, room = count, quota - (count - begin)
            for chain in range(questions.chain_first[key], questions.chain_end[key]):
                at = questions.chain[chain, level]
                if at < 0:
                    continue
                if list_start[at] < 0:
                    found = newest_rows(rows, questions.low[at], questions.high[at], passing, quota, scratch)
                    lists = _with_room(lists, listed, found)
                    lists[listed : listed + found] = scratch[:found]
                    list_start[at], list_end[at] = listed, listed + found
                    listed += found
                answer = _with_room(answer, count, room)
                count = _add(lists, list_start[at], list_end[at], level, room, is_taken, answer, count)
            if questions.chain_end[key] - questions.chain_first[key] > 1:
                sort_down(answer, taken, count)
                for at in range(min(taken + room, count), count):
                    _unmark(is_taken, answer[at] & _RANK)
                count = min(taken + room, count)
        for at in range(begin, count):
            _unmark(is_taken, answer[at] & _RANK)
        starts[key + 1] = count
    return starts, answer[:count]


@compiled
def _with_room(values: I64, used: int, more: int) -> I64:
    if used + more <= len(values):
        return values
    grown = np.empty(2 * (used + more), np.int64)
    for at in range(used):
        grown[at] = values[at]
    return grown


@compiled
def _add(part: I64, start: int, stop: int, level: int, room: int, is_taken: U64, answer: I64, count: int) -> int:
    """Adds ranks that are not taken yet, at most `room` of them; gives the new end of the answer."""
    end = count + room
    for at in range(start, stop):
        if count == end:
            break
        rank = part[at]
        bit = np.uint64(1) << np.uint64(rank & 63)
        if not is_taken[rank >> 6] & bit:
            is_taken[rank >> 6] |= bit
            answer[count] = (_DEEPEST - level) << _RANK_BITS | rank
            count += 1
    return count


@compiled
def _unmark(is_taken: U64, rank: int) -> None:
    is_taken[rank >> 6] &= ~(np.uint64(1) << np.uint64(rank & 63))


@compiled
def join_domains(starts: I64, answers: I64, num_domains: int, num_keys: int, cap: int) -> tuple[I64, I64, I64]:
    """Puts the answers of the domains together, question by question, oldest first.

    Args:
        starts: Where each domain's and question's answer starts in `answers`, and its end. (D, K, 2)
        answers: What `climb_and_take` gave for each domain, one after another.
        num_domains: D.
        num_keys: K.
        cap: Keep so many per question, by (level, newest first).

    Returns:
        Where each question's answer starts in the other two, and the end, (K + 1,); positions in time order, ascending
        within a question; match levels.
    """
    out_start = np.zeros(num_keys + 1, np.int64)
    rank, level = np.empty(len(answers), np.int64), np.empty(len(answers), np.int64)
    part = np.empty(len(answers), np.int64)
    count = 0
    for key in range(num_keys):
        size = 0
        for domain in range(num_domains):
            for at in range(starts[domain, key, 0], starts[domain, key, 1]):
                part[size] = answers[at]
                size += 1
        if size > cap:
            sort_down(part, 0, size)
            size = cap
        for at in range(size):
            part[at] = (part[at] & _RANK) << 8 | (_DEEPEST - (part[at] >> _RANK_BITS))
        sort_down(part, 0, size)
        for at in range(size - 1, -1, -1):
            rank[count], level[count] = part[at] >> 8, part[at] & _DEEPEST
            count += 1
        out_start[key + 1] = count
    return out_start, rank[:count], level[:count]
