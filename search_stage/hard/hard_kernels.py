"""Kernels of hierarchical hard search; `hard.py` says what they answer."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.hard.answer_kernels import join_domains, merge_new
from search_stage.hard.newest_kernels import SPARE, Rows, newest_rows
from search_stage.kernels.distinct import number_distinct
from search_stage.kernels.sorting import PLACES_ROOM
from search_stage.kernels.vector_ops import prefetch
from store.compiled import kernel, kernel_inline, kernel_no_refcount

if TYPE_CHECKING:
    from search_stage.hard.level_kernels import Intervals, OwnRows
    from store.types import I64, U16, U32, Bool

_QUOTA, _MIN_MATCHES, _MAX_LEVEL = range(3)
"""Columns of `Policies.limits`."""
_NOT_LISTED = -1
_LINE = 16
"""Ranks in a line of the cache."""
_PREFETCH_ROWS = 16 * _LINE
"""Of a longer range the hardware prefetches the rest."""


class Timeline(NamedTuple):
    """A user's rows and their order in time."""

    rank: U32
    """Position of each row in the time order. (N,)"""
    order: U32
    """Its inverse. (N,)"""
    scene: U16
    """Code of each row; may be empty where every policy lets every scene pass."""
    cut: int
    """Behaviors that exist."""
    section_stream: I64
    """Domain and action code of each section. (S, 2)"""


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
    """Lists that candidates share within a domain, and scratch buffers."""

    listed: I64
    """Length of each interval's list of newest rows, `_NOT_LISTED` = not asked for yet. (A,)"""
    rank: U32
    """The lists, positions in the time order, newest first, each where its interval's number times the quota is."""
    newest: U32
    """Room for the lists of the chains of one candidate."""
    taken: I64
    """Room for one answer."""
    low: I64
    """Room for the starts of the ranges that pass."""
    high: I64
    """And their ends."""
    scratch: U32
    """See `newest_rows`."""
    positions: U32
    """See `newest_rows`."""


@kernel
def distinct_questions(chain_start: I64, category: I64, own_start: I64) -> tuple[I64, I64]:
    """Groups the candidates with the same answer: of one category, and without rows of their own.

    Args:
        chain_start: Where each candidate's chains start, and the end. (C + 1,)
        category: Number of each chain's category. (X,)
        own_start: Where each candidate's own ranges start, and the end. (C + 1,)

    Returns:
        The question of each candidate, (C,), and the first candidate of each, (K,).
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


@kernel
def answer_questions(
    timeline: Timeline, policies: Policies, first: I64, intervals: Intervals, own: OwnRows, cap: int
) -> tuple[I64, I64, I64, I64]:
    """Answers every question, over all domains.

    Args:
        timeline: The history.
        policies: One for each domain code.
        first: Only rows at or after this position in the time order, by domain code. (D,)
        intervals: What matches at level 1 and above.
        own: What matches at level 0.
        cap: Entries to keep per question, by (level, newest first).

    Returns:
        The question of each candidate, (C,); where each question's answer starts in the other two, and the end,
        (K + 1,); positions in the time order, ascending within a question; match levels.
    """
    cut, section_stream = timeline.cut, timeline.section_stream
    question, first_candidate = distinct_questions(intervals.chain_start, intervals.category, own.start)
    num_domains, num_keys, num_chains = len(policies.limits), len(first_candidate), 1
    for key in range(num_keys):
        num_chains = max(
            num_chains, intervals.chain_start[first_candidate[key] + 1] - intervals.chain_start[first_candidate[key]]
        )
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
        scratch=np.empty(4 * widest + SPARE, np.uint32),
        positions=np.empty(PLACES_ROOM, np.uint32),
    )
    start, entry = np.zeros((num_domains, num_keys + 1), np.int64), np.empty(most * num_keys, np.int64)
    end = 0
    for at in range(num_domains):
        start[at] = end
        quota, min_matches, max_level = policies.limits[at]
        passing = np.empty(len(section_stream), np.bool_)
        for section in range(len(section_stream)):
            is_ours = section_stream[section, 0] == at
            passing[section] = is_ours and policies.passing_action[at, section_stream[section, 1]]
        if quota > 0 and first[at] < cut and passing.any():
            scenes = policies.passing_scene[policies.scene_offsets[at] : policies.scene_offsets[at + 1]]
            rows = Rows(timeline.rank, timeline.order, timeline.scene, scenes, first[at], cut)
            part = Domain(rows, passing, min(quota, cut), min_matches, max_level)
            end = _climb_and_take(part, intervals, own, first_candidate, work, start[at], entry)
    return question, *join_domains(start, entry, most, cap)


@kernel_no_refcount
def _climb_and_take(
    domain: Domain, intervals: Intervals, own: OwnRows, first_candidate: I64, work: Work, start: I64, entry: I64
) -> int:
    """Adds one domain's answers to the questions, as `answer_kernels.py` has them; gives the new end of all."""
    newest, taken = work.newest, work.taken
    for at in range(len(work.listed)):
        work.listed[at] = _NOT_LISTED
    _prefetch_ranges(domain, intervals, first_candidate)
    for key in range(len(first_candidate)):
        begin, level = start[key], 0
        size = _own_rows(domain, own, first_candidate[key], work)
        count = merge_new(newest[:size], level, domain.quota, entry, begin, begin, taken)
        while count - begin < domain.min_matches and level < domain.max_level:
            level += 1
            size = _newest_at(domain, intervals, first_candidate[key], level, work)
            count = merge_new(newest[:size], level, domain.quota, entry, begin, count, taken)
        start[key + 1] = count
    return int(start[len(first_candidate)])


@kernel_inline
def _prefetch_ranges(domain: Domain, intervals: Intervals, first_candidate: I64) -> None:
    """Prefetches the rows of the intervals at level 1, which are many and short."""
    for key in range(len(first_candidate)):
        for chain in range(
            intervals.chain_start[first_candidate[key]], intervals.chain_start[first_candidate[key] + 1]
        ):
            at = intervals.chain[chain, 1]
            for section in range(len(domain.passing)):
                if domain.passing[section]:
                    stop = min(intervals.high[at, section], intervals.low[at, section] + _PREFETCH_ROWS)
                    for row in range(intervals.low[at, section], stop, _LINE):
                        prefetch(domain.rows.rank, (row,))


@kernel_inline
def _own_rows(domain: Domain, own: OwnRows, candidate: int, work: Work) -> int:
    """Writes a candidate's rows of level 0 into `work.newest`, newest first; gives their number."""
    count = 0
    for at in range(own.start[candidate], own.start[candidate + 1]):
        if domain.passing[own.section[at]]:
            work.low[count], work.high[count] = own.low[at], own.high[at]
            count += 1
    if count == 0:
        return 0
    out = work.newest[: domain.quota]
    return newest_rows(domain.rows, work.low[:count], work.high[:count], work.scratch, work.positions, out)


@kernel_inline
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
    return _distinct_down(newest[:size]) if last - first > 1 else size


@kernel
def _distinct_down(ranks: U32) -> int:
    """Sorts, the largest first, and drops what occurs again; gives the number left in front."""
    ranks[:] = np.sort(ranks)[::-1]
    count = 0
    for at in range(len(ranks)):
        if count == 0 or ranks[at] < ranks[count - 1]:
            ranks[count] = ranks[at]
            count += 1
    return count


@kernel_no_refcount
def _list_newest(domain: Domain, low: I64, high: I64, work: Work, out: U32) -> int:
    """Writes the newest rows of one interval, newest first; gives their number."""
    count = 0
    for section in range(len(low)):
        if domain.passing[section] and low[section] < high[section]:
            work.low[count], work.high[count] = low[section], high[section]
            count += 1
    return newest_rows(domain.rows, work.low[:count], work.high[:count], work.scratch, work.positions, out)
