"""Kernels of hierarchical hard search; `hard.py` says what they answer."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.compiled import compiled
from search_stage.level_kernels import number_distinct
from search_stage.newest_rows import BLOCK, newest_rows
from search_stage.sorting import sort_down

if TYPE_CHECKING:
    from search_stage.newest_rows import Rows
    from store.types import I64, U64, Bool

_DEEPEST = 255
_RANK_BITS = 32
_RANK = (1 << _RANK_BITS) - 1


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
def distinct_questions(chain_start: I64, category: I64, own_start: I64) -> tuple[I64, I64, I64, I64, I64]:
    """Finds the candidates that ask the same: of one category, and without rows of their own.

    Args:
        chain_start: Where each candidate's chains start, and the end. (C + 1,)
        category: Number of each chain's category. (X,)
        own_start: Where each candidate's own ranges start, and the end. (C + 1,)

    Returns:
        The question of each candidate, (C,); `own_first`, `own_end`, `chain_first` and `chain_end` of `Questions`.
    """
    count = len(chain_start) - 1
    label = np.empty(count, np.int64)
    for at in range(count):
        num_chains = chain_start[at + 1] - chain_start[at]
        if own_start[at + 1] > own_start[at] or num_chains > 1:
            label[at] = 1 + len(category) + at
        else:
            label[at] = 1 + category[chain_start[at]] if num_chains else 0
    question, asker = number_distinct(label)
    return question, own_start[asker], own_start[asker + 1], chain_start[asker], chain_start[asker + 1]


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
    scratch = np.empty(4 * quota + BLOCK + 1, np.int64)
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
                sort_down(answer[taken:count])
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
            sort_down(part[:size])
            size = cap
        for at in range(size):
            part[at] = (part[at] & _RANK) << 8 | (_DEEPEST - (part[at] >> _RANK_BITS))
        sort_down(part[:size])
        for at in range(size - 1, -1, -1):
            rank[count], level[count] = part[at] >> 8, part[at] & _DEEPEST
            count += 1
        out_start[key + 1] = count
    return out_start, rank[:count], level[:count]
