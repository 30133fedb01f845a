"""Kernels of hierarchical hard search; `hard.py` says what they answer."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.compiled import compiled, compiled_into_callers
from search_stage.level_kernels import number_distinct
from search_stage.newest_rows import SPARE, Rows, newest_rows
from search_stage.sorting import pad, place_of
from search_stage.vector_ops import WORD

if TYPE_CHECKING:
    from store.types import I64, U16, U32, U64, Bool

_FIRST, _QUOTA, _MIN_MATCHES, _MAX_LEVEL = range(4)
"""Columns of `Policies.limits`."""
_RANK_BITS = 32
_NEWEST = (1 << _RANK_BITS) - 1


class Policies(NamedTuple):
    """What each domain's policy lets pass, and how far to climb."""

    limits: I64
    """The rows at or after a position in the time order, the quota, `min_matches`, which is at most the quota, and
    `max_level`. (D, 4)"""
    passing: Bool
    """The sections of the domain whose action passes. (D, S)"""
    passing_scene: Bool
    """By scene code, one policy after another; none of a policy that lets every scene pass."""
    scene_offsets: I64
    """Where each policy's scenes start, and the end. (D + 1,)"""


class Listed(NamedTuple):
    """The newest rows of the intervals, as far as they were asked for."""

    start: I64
    """Where each domain's and interval's list starts, -1 = not asked for yet. (D, A)"""
    end: I64
    """(D, A)"""
    rank: U32
    """Positions in the time order, newest first in a list."""


class Answer(NamedTuple):
    """The answer to a question while it is made, and what is needed for that."""

    rank: U32
    """Positions in the time order, and room for `sorting.pad`."""
    level: I64
    """Match level of each."""
    is_taken: U64
    """A bit for each position in the time order."""
    met: U32
    """See `newest_rows`."""
    own: U32
    """Room for a candidate's own rows."""


class Asked(NamedTuple):
    """The level matches of a request, as `levels.LevelMatches` names them."""

    chain_start: I64
    category: I64
    chain: I64
    low: I64
    high: I64
    own_start: I64
    own_section: I64
    own_low: I64
    own_high: I64


@compiled
def distinct_questions(chain_start: I64, category: I64, own_start: I64) -> tuple[I64, I64]:
    """Finds the candidates that ask the same: of one category, and without rows of their own.

    Args:
        chain_start: Where each candidate's chains start, and the end. (C + 1,)
        category: Number of each chain's category. (X,)
        own_start: Where each candidate's own ranges start, and the end. (C + 1,)

    Returns:
        The question of each candidate, (C,), and the first candidate that asks each, (K,).
    """
    count = len(chain_start) - 1
    label = np.empty(count, np.int64)
    for at in range(count):
        num_chains = chain_start[at + 1] - chain_start[at]
        if own_start[at + 1] > own_start[at] or num_chains > 1:
            label[at] = 1 + len(category) + at
        else:
            label[at] = 1 + category[chain_start[at]] if num_chains else 0
    return number_distinct(label)


@compiled
def answer_questions(
    rank: U32, order: U32, scene: U16, cut: int, policies: Policies, asked: Asked, cap: int
) -> tuple[I64, I64, I64, I64]:
    """Answers every question, over all domains.

    Args:
        rank: Position of each row in the time order. (N,)
        order: Its inverse. (N,)
        scene: Code of each row; may be empty where every policy lets every scene pass.
        cut: Behaviors that exist.
        policies: One for each domain.
        asked: What is asked.
        cap: Keep so many per question, by (level, newest first).

    Returns:
        The question of each candidate, (C,); where each question's answer starts in the other two, and the end,
        (K + 1,); positions in the time order, ascending within a question; match levels.
    """
    question, asker = distinct_questions(asked.chain_start, asked.category, asked.own_start)
    num_domains, num_intervals, num_chains = len(policies.limits), len(asked.low), 1
    for key in range(len(asker)):
        num_chains = max(num_chains, asked.chain_start[asker[key] + 1] - asked.chain_start[asker[key]])
    widest, most = 0, 0
    for domain in range(num_domains):
        quota = min(policies.limits[domain, _QUOTA], cut)
        widest, most = max(widest, quota), most + quota
    # The newest rows of each interval, found when first asked for: of one, no more than the quota can be answered, for
    # fewer than `min_matches <= quota` rows lie below the stop level.
    listed = Listed(
        start=np.full((num_domains, num_intervals), -1, np.int64),
        end=np.empty((num_domains, num_intervals), np.int64),
        rank=np.empty(most * num_intervals, np.uint32),
    )
    room = most + num_chains * widest
    answer = Answer(
        rank=np.empty(room + WORD, np.uint32),
        level=np.empty(room, np.int64),
        is_taken=np.zeros((cut >> 6) + 1, np.uint64),
        met=np.empty(4 * widest + SPARE, np.uint32),
        own=np.empty(widest, np.uint32),
    )
    start, count, used = np.zeros(len(asker) + 1, np.int64), 0, 0
    out_rank, out_level = np.empty(most * len(asker), np.int64), np.empty(most * len(asker), np.int64)
    for key in range(len(asker)):
        size = 0
        for domain in range(num_domains):
            scenes = slice(policies.scene_offsets[domain], policies.scene_offsets[domain + 1])
            first, quota = policies.limits[domain, _FIRST], min(policies.limits[domain, _QUOTA], cut)
            if quota > 0 and first < cut:
                rows = Rows(rank, order, scene, policies.passing_scene[scenes], first, cut)
                size, used = _climb_and_take(
                    rows, policies, domain, quota, asked, asker[key], listed, used, answer, size
                )
        for at in range(size):
            _unmark(answer.is_taken, answer.rank[at])
        if size > cap:
            _keep_nearest(answer, size, cap)
            size = cap
        padded = pad(answer.rank, size)
        for at in range(size):
            place = count + place_of(answer.rank, padded, answer.rank[at])
            out_rank[place], out_level[place] = answer.rank[at], answer.level[at]
        count += size
        start[key + 1] = count
    return question, start, out_rank[:count], out_level[:count]


@compiled_into_callers
def _climb_and_take(
    rows: Rows,
    policies: Policies,
    domain: int,
    quota: int,
    asked: Asked,
    candidate: int,
    listed: Listed,
    used: int,
    answer: Answer,
    begin: int,
) -> tuple[int, int]:
    """Adds one domain's answer to one question; gives the new ends of the answer and of what is listed."""
    count, passing = begin, policies.passing[domain]
    min_matches, max_level = policies.limits[domain, _MIN_MATCHES], policies.limits[domain, _MAX_LEVEL]
    first, last = asked.own_start[candidate], asked.own_start[candidate + 1]
    if first < last:
        passes = passing[asked.own_section[first:last]]
        own = answer.own[:quota]
        found = newest_rows(rows, asked.own_low[first:last], asked.own_high[first:last], passes, answer.met, own)
        count = _add(own, 0, found, 0, found, answer, count)
    first, last, level = asked.chain_start[candidate], asked.chain_start[candidate + 1], 0
    while count - begin < min_matches and level < max_level:
        level += 1
        taken, room = count, quota - (count - begin)
        for chain in range(first, last):
            at = asked.chain[chain, level]
            if at < 0:
                continue
            if listed.start[domain, at] < 0:
                out = listed.rank[used : used + quota]
                found = newest_rows(rows, asked.low[at], asked.high[at], passing, answer.met, out)
                listed.start[domain, at], listed.end[domain, at] = used, used + found
                used += found
            start, end = listed.start[domain, at], listed.end[domain, at]
            count = _add(listed.rank, start, end, level, room, answer, count)
        if last - first > 1:
            answer.rank[taken:count] = np.sort(answer.rank[taken:count])[::-1]
            for at in range(min(taken + room, count), count):
                _unmark(answer.is_taken, answer.rank[at])
            count = min(taken + room, count)
    return count, used


@compiled_into_callers
def _add(part: U32, start: int, stop: int, level: int, room: int, answer: Answer, count: int) -> int:
    """Adds ranks that are not taken yet, at most `room` of them; gives the new end of the answer."""
    end = count + room
    for at in range(start, stop):
        if count == end:
            break
        rank = part[at]
        bit = np.uint64(1) << np.uint64(rank & 63)
        if not answer.is_taken[rank >> 6] & bit:
            answer.is_taken[rank >> 6] |= bit
            answer.rank[count], answer.level[count] = rank, level
            count += 1
    return count


@compiled_into_callers
def _unmark(is_taken: U64, rank: np.uint32) -> None:
    is_taken[rank >> 6] &= ~(np.uint64(1) << np.uint64(rank & 63))


@compiled
def _keep_nearest(answer: Answer, size: int, cap: int) -> None:
    """Puts the first `cap` of the answer by (level, newest first) in front."""
    order = np.sort(answer.level[:size] << _RANK_BITS | (_NEWEST - answer.rank[:size]))
    for at in range(cap):
        answer.level[at] = order[at] >> _RANK_BITS
        answer.rank[at] = _NEWEST - (order[at] & _NEWEST)
