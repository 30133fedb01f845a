"""Kernels of hierarchical hard search; `hard.py` says what they answer."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.compiled import compiled, compiled_into_callers
from search_stage.level_kernels import number_distinct
from search_stage.newest_rows import SPARE, Rows, newest_rows
from search_stage.sorting import places_up
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
    """The answers while they are made, and what is needed for that."""

    start: I64
    """Where each domain's answer to each question starts in the next two, and the end. (D, K + 1)"""
    rank: U32
    """Positions in the time order."""
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
    num_keys = len(asker)
    answer = Answer(
        start=np.zeros((num_domains, num_keys + 1), np.int64),
        rank=np.empty(most * num_keys + num_chains * widest, np.uint32),
        level=np.empty(most * num_keys + num_chains * widest, np.int64),
        is_taken=np.zeros((cut >> 6) + 1, np.uint64),
        met=np.empty(4 * widest + SPARE, np.uint32),
        own=np.empty(widest, np.uint32),
    )
    end, used = 0, 0
    for domain in range(num_domains):
        scenes = slice(policies.scene_offsets[domain], policies.scene_offsets[domain + 1])
        first, quota = policies.limits[domain, _FIRST], min(policies.limits[domain, _QUOTA], cut)
        answer.start[domain] = end
        if quota > 0 and first < cut:
            rows = Rows(rank, order, scene, policies.passing_scene[scenes], first, cut)
            used = _climb_and_take(rows, policies, domain, quota, asked, asker, listed, used, answer)
            end = answer.start[domain, num_keys]
    return question, *_join_domains(answer, num_keys, most, cap)


@compiled
def _climb_and_take(
    rows: Rows,
    policies: Policies,
    domain: int,
    quota: int,
    asked: Asked,
    asker: I64,
    listed: Listed,
    used: int,
    answer: Answer,
) -> int:
    """Adds one domain's answers to the questions; gives the new end of what is listed."""
    passing, count = policies.passing[domain], answer.start[domain, 0]
    min_matches, max_level = policies.limits[domain, _MIN_MATCHES], policies.limits[domain, _MAX_LEVEL]
    for key in range(len(asker)):
        begin, level = count, 0
        first, last = asked.own_start[asker[key]], asked.own_start[asker[key] + 1]
        if first < last:
            passes, own = passing[asked.own_section[first:last]], answer.own[:quota]
            found = newest_rows(rows, asked.own_low[first:last], asked.own_high[first:last], passes, answer.met, own)
            count = _add(own, 0, found, 0, found, answer, count)
        first, last = asked.chain_start[asker[key]], asked.chain_start[asker[key] + 1]
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
                count = _add(listed.rank, listed.start[domain, at], listed.end[domain, at], level, room, answer, count)
            if last - first > 1:
                answer.rank[taken:count] = np.sort(answer.rank[taken:count])[::-1]
                for at in range(min(taken + room, count), count):
                    _unmark(answer.is_taken, answer.rank[at])
                count = min(taken + room, count)
        for at in range(begin, count):
            _unmark(answer.is_taken, answer.rank[at])
        answer.start[domain, key + 1] = count
    return used


@compiled
def _join_domains(answer: Answer, num_keys: int, most: int, cap: int) -> tuple[I64, I64, I64]:
    """Puts the answers of the domains together, question by question, oldest first; see `answer_questions`."""
    total = answer.start[-1, num_keys] if len(answer.start) else 0
    start, count = np.zeros(num_keys + 1, np.int64), 0
    rank, level = np.empty(total, np.int64), np.empty(total, np.int64)
    part_rank, part_level, place = np.empty(most + WORD, np.uint32), np.empty(most, np.int64), np.empty(most, np.int64)
    for key in range(num_keys):
        size = 0
        for domain in range(len(answer.start)):
            for at in range(answer.start[domain, key], answer.start[domain, key + 1]):
                part_rank[size], part_level[size] = answer.rank[at], answer.level[at]
                size += 1
        if size > cap:
            _keep_nearest(part_rank, part_level, size, cap)
            size = cap
        places_up(part_rank, size, place)
        for at in range(size):
            rank[count + place[at]], level[count + place[at]] = part_rank[at], part_level[at]
        count += size
        start[key + 1] = count
    return start, rank[:count], level[:count]


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
def _keep_nearest(rank: U32, level: I64, size: int, cap: int) -> None:
    """Puts the first `cap` of an answer by (level, newest first) in front."""
    order = np.sort(level[:size] << _RANK_BITS | (_NEWEST - rank[:size]))
    for at in range(cap):
        level[at] = order[at] >> _RANK_BITS
        rank[at] = _NEWEST - (order[at] & _NEWEST)
