"""Kernels of hierarchical hard search; `hard.py` says what they answer."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.compiled import compiled, compiled_into_callers, compiled_uncounted
from search_stage.level_kernels import number_distinct
from search_stage.newest_rows import SPARE, Rows, newest_rows

if TYPE_CHECKING:
    from search_stage.level_kernels import Intervals, OwnRows
    from store.types import I64, U16, U32, Bool

_QUOTA, _MIN_MATCHES, _MAX_LEVEL = range(3)
"""Columns of `Policies.limits`."""
_LEVEL_BITS = 8
"""An entry of an answer is a position in the time order and, in so many low bits, the match level."""
_LEVELS = (1 << _LEVEL_BITS) - 1
_RANK_BITS = 32
_NEWEST = (1 << _RANK_BITS) - 1
_NOT_LISTED = -1


class Policies(NamedTuple):
    """What each domain's policy lets pass, and how far to climb, by domain code."""

    limits: I64
    """The quota, `min_matches`, which is at most the quota, and `max_level`. (D, 3)"""
    passing_action: Bool
    """By domain and action code. (D, number of actions)"""
    passing_scene: Bool
    """By scene code, one policy after another; none of a policy that lets every scene pass."""
    scene_offsets: I64
    """Where each policy's scenes start, and the end. (D + 1,)"""


class Domain(NamedTuple):
    """One domain's part of a request."""

    rows: Rows
    passing: Bool
    """Sections of the domain whose action passes. (S,)"""
    quota: int
    min_matches: int
    max_level: int


class Work(NamedTuple):
    """Lists that candidates share within a domain, and room to work in."""

    listed: I64
    """Length of each interval's list of newest rows, `_NOT_LISTED` = not asked for yet. (A,)"""
    rank: U32
    """The lists, positions in the time order, newest first, each where its interval's number times the quota is."""
    newest: U32
    """Room for the lists of the chains of one candidate."""
    taken: I64
    """Room for one answer."""
    low: I64
    """Room for the ranges that pass."""
    high: I64
    """So too."""
    met: U32
    """See `newest_rows`."""


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
    rank: U32,
    order: U32,
    scene: U16,
    cut: int,
    section_stream: I64,
    policies: Policies,
    first: I64,
    intervals: Intervals,
    own: OwnRows,
    cap: int,
) -> tuple[I64, I64, I64, I64]:
    """Answers every question, over all domains.

    Args:
        rank: Position of each row in the time order. (N,)
        order: Its inverse. (N,)
        scene: Code of each row; may be empty where every policy lets every scene pass.
        cut: Behaviors that exist.
        section_stream: Domain and action code of each section. (S, 2)
        policies: One for each domain code.
        first: Only rows at or after this position in the time order, by domain code. (D,)
        intervals: What matches at level 1 and above.
        own: What matches at level 0.
        cap: Keep so many per question, by (level, newest first).

    Returns:
        The question of each candidate, (C,); where each question's answer starts in the other two, and the end,
        (K + 1,); positions in the time order, ascending within a question; match levels.
    """
    question, asker = distinct_questions(intervals.chain_start, intervals.category, own.start)
    num_domains, num_keys, num_chains = len(policies.limits), len(asker), 1
    for key in range(num_keys):
        num_chains = max(num_chains, intervals.chain_start[asker[key] + 1] - intervals.chain_start[asker[key]])
    widest, most = 0, 0
    for domain in range(num_domains):
        quota = min(policies.limits[domain, _QUOTA], cut)
        widest, most = max(widest, quota), most + quota
    # Of the rows of an interval no more than the quota can be answered, for fewer than `min_matches <= quota` lie below
    # the stop level.
    work = Work(
        listed=np.empty(len(intervals.low), np.int64),
        rank=np.empty(widest * len(intervals.low), np.uint32),
        newest=np.empty(widest * num_chains, np.uint32),
        taken=np.empty(widest, np.int64),
        low=np.empty(max(len(section_stream), len(own.low)), np.int64),
        high=np.empty(max(len(section_stream), len(own.low)), np.int64),
        met=np.empty(4 * widest + SPARE, np.uint32),
    )
    start, entry = np.zeros((num_domains, num_keys + 1), np.int64), np.empty(most * num_keys, np.int64)
    end = np.int64(0)
    for at in range(num_domains):
        start[at] = end
        quota, min_matches, max_level = policies.limits[at]
        passing = np.empty(len(section_stream), np.bool_)
        for section in range(len(section_stream)):
            is_ours = section_stream[section, 0] == at
            passing[section] = is_ours and policies.passing_action[at, section_stream[section, 1]]
        if quota > 0 and first[at] < cut and passing.any():
            scenes = policies.passing_scene[policies.scene_offsets[at] : policies.scene_offsets[at + 1]]
            rows = Rows(rank, order, scene, scenes, first[at], cut)
            domain = Domain(rows, passing, min(quota, cut), min_matches, max_level)
            end = _climb_and_take(domain, intervals, own, asker, work, start[at], entry)
    return question, *_join_domains(start, entry, most, cap)


@compiled_uncounted
def _climb_and_take(
    domain: Domain, intervals: Intervals, own: OwnRows, asker: I64, work: Work, start: I64, entry: I64
) -> int:
    """Adds one domain's answers to the questions, newest first in an answer; gives the new end of all."""
    newest, taken = work.newest, work.taken
    for at in range(len(work.listed)):
        work.listed[at] = _NOT_LISTED
    for key in range(len(asker)):
        begin, level = start[key], 0
        size = _own_rows(domain, own, asker[key], work)
        count = _merge(newest[:size], level, domain.quota, entry, begin, begin, taken)
        while count - begin < domain.min_matches and level < domain.max_level:
            level += 1
            size = _newest_at(domain, intervals, asker[key], level, work)
            count = _merge(newest[:size], level, domain.quota, entry, begin, count, taken)
        start[key + 1] = count
    return start[len(asker)]


@compiled_into_callers
def _own_rows(domain: Domain, own: OwnRows, candidate: int, work: Work) -> int:
    """Writes a candidate's rows of level 0 into `work.newest`, newest first; gives their number."""
    count = 0
    for at in range(own.start[candidate], own.start[candidate + 1]):
        if domain.passing[own.section[at]]:
            work.low[count], work.high[count] = own.low[at], own.high[at]
            count += 1
    if count == 0:
        return 0
    return newest_rows(domain.rows, work.low[:count], work.high[:count], work.met, work.newest[: domain.quota])


@compiled_into_callers
def _newest_at(domain: Domain, intervals: Intervals, candidate: int, level: int, work: Work) -> int:
    """Writes the newest rows of a level's intervals into `work.newest`, newest first; gives their number."""
    size, quota, newest = 0, domain.quota, work.newest
    first, last = intervals.chain_start[candidate], intervals.chain_start[candidate + 1]
    for chain in range(first, last):
        at = intervals.chain[chain, level]
        if at < 0:
            continue
        ranks = work.rank[at * quota : (at + 1) * quota]
        if work.listed[at] == _NOT_LISTED:
            work.listed[at] = _list_newest(domain, intervals.low[at], intervals.high[at], work, ranks)
        for place in range(work.listed[at]):
            newest[size] = ranks[place]
            size += 1
    if last - first > 1:
        _sort_down(newest[:size])
    return size


@compiled
def _sort_down(ranks: U32) -> None:
    ranks[:] = np.sort(ranks)[::-1]


@compiled_uncounted
def _list_newest(domain: Domain, low: I64, high: I64, work: Work, out: U32) -> int:
    """Writes the newest rows of one interval, newest first; gives their number."""
    count = 0
    for section in range(len(low)):
        if domain.passing[section] and low[section] < high[section]:
            work.low[count], work.high[count] = low[section], high[section]
            count += 1
    return newest_rows(domain.rows, work.low[:count], work.high[:count], work.met, out)


@compiled_into_callers
def _merge(newest: U32, level: int, quota: int, entry: I64, begin: int, end: int, taken: I64) -> int:
    """Merges those of the newest rows of a level that are new to an answer into it, up to the quota.

    The answer stands in `entry` from `begin` to `end`, newest first, and does so afterwards. Gives its new end.
    """
    num_taken, room = end - begin, quota - (end - begin)
    for at in range(num_taken):
        taken[at] = entry[begin + at]
    count, at = begin, 0
    for place in range(len(newest)):
        rank = np.int64(newest[place])
        while at < num_taken and taken[at] >> _LEVEL_BITS >= rank:
            entry[count] = taken[at]
            count, at = count + 1, at + 1
        if count > begin and entry[count - 1] >> _LEVEL_BITS == rank:
            continue
        if room == 0:
            break
        entry[count] = rank << _LEVEL_BITS | level
        count, room = count + 1, room - 1
    for left in range(at, num_taken):
        entry[count] = taken[left]
        count += 1
    return count


@compiled
def _join_domains(start: I64, entry: I64, most: int, cap: int) -> tuple[I64, I64, I64]:
    """Puts the answers of the domains together, question by question, oldest first; see `answer_questions`.

    Args:
        start: Where each domain's answer to each question starts in `entry`, and the end. (D, K + 1)
        entry: Newest first within an answer.
        most: Entries of a question at most.
        cap: See `answer_questions`.
    """
    num_domains, num_keys = len(start), start.shape[1] - 1
    total = start[-1, num_keys] if num_domains else 0
    out_start, count = np.zeros(num_keys + 1, np.int64), 0
    rank, level = np.empty(total, np.int64), np.empty(total, np.int64)
    joined, head = np.empty(most, np.int64), np.empty(num_domains, np.int64)
    for key in range(num_keys):
        size = 0
        for domain in range(num_domains):
            head[domain] = start[domain, key + 1]
            size += start[domain, key + 1] - start[domain, key]
        for at in range(size):
            oldest, which = np.iinfo(np.int64).max, 0
            for domain in range(num_domains):
                if head[domain] > start[domain, key] and entry[head[domain] - 1] < oldest:
                    oldest, which = entry[head[domain] - 1], domain
            head[which] -= 1
            joined[at] = oldest
        if size > cap:
            _keep_nearest(joined[:size], cap)
            size = cap
        for at in range(size):
            rank[count + at], level[count + at] = joined[at] >> _LEVEL_BITS, joined[at] & _LEVELS
        count += size
        out_start[key + 1] = count
    return out_start, rank[:count], level[:count]


@compiled
def _keep_nearest(joined: I64, cap: int) -> None:
    """Puts the first `cap` of an answer by (level, newest first) in front, oldest first."""
    order = np.sort((joined & _LEVELS) << _RANK_BITS | (_NEWEST - (joined >> _LEVEL_BITS)))[:cap]
    joined[:cap] = np.sort((_NEWEST - (order & _NEWEST)) << _LEVEL_BITS | order >> _RANK_BITS)
