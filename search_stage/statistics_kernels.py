"""Kernels that count matches and find the newest and the oldest; `statistics.py` says what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.hard.interval_kernels import lower_bound
from store.compiled import kernel

if TYPE_CHECKING:
    from search_stage.hard.level_kernels import Intervals, OwnRows
    from store.types import I32, I64, U32

_STEP_COST = 8
"""A step of a walk through the time order, in rows of a scan that takes many at once."""


class Times(NamedTuple):
    """When the rows of a history happened, and when a request is."""

    rank: U32
    """Position of each row in the time order. (N,)"""
    order: U32
    """Its inverse. (N,)"""
    timestamp_ms: I64
    """(N,)"""
    cut: int
    """Behaviors that exist."""
    as_of_ms: int


class Matches(NamedTuple):
    """What is known of some groups of rows, shape (...) each; the newest and the oldest as positions in time order."""

    number: I32
    newest: I64
    """-1 = no match, as everywhere."""
    oldest: I64
    within: I32
    """Matches no older than each of the ages. (..., E)"""


@kernel
def count_and_age(
    times: Times,
    section_start: I64,
    section_streams: I64,
    intervals: Intervals,
    own: OwnRows,
    num_levels: int,
    num_streams: int,
    within_ms: I64,
) -> tuple[I32, I64, I64, I32, I32, I64, I64, I32]:
    """Gives the arrays of `MatchStatistics` in its order, those of candidates, then the totals.

    Args:
        times: Of the history.
        section_start: First row of each section, and the end. (S + 1,)
        section_streams: Stream of each section; -1 = it is none. (S,)
        intervals: What matches at level 1 and above.
        own: What matches at level 0.
        num_levels: Levels to answer.
        num_streams: Streams of the generation.
        within_ms: Ages, ascending. (E,)
    """
    first = _first_within(times, within_ms)
    num_ages, shape = len(first), (len(own.start) - 1, num_levels, num_streams)
    found = Matches(
        np.zeros(shape, np.int32),
        np.full(shape, -1, np.int64),
        np.full(shape, -1, np.int64),
        np.zeros((shape[0], num_levels, num_streams, num_ages), np.int32),
    )
    _count_own(times.rank, own, section_streams, first, found)
    of_interval = _count_intervals(times, intervals.low, intervals.high, first)
    _spread(of_interval, intervals, section_streams, found)
    sections, total_shape = len(section_streams), (1, 1, num_streams)
    total = Matches(
        np.zeros(total_shape, np.int32),
        np.full(total_shape, -1, np.int64),
        np.full(total_shape, -1, np.int64),
        np.zeros((1, 1, num_streams, num_ages), np.int32),
    )
    low, high = section_start[:-1].copy().reshape(1, sections), section_start[1:].copy().reshape(1, sections)
    of_section = _count_intervals(times, low, high, first)
    for section in range(sections):
        if section_streams[section] >= 0 and of_section.number[0, section] > 0:
            _add(of_section, 0, section, total, 0, 0, section_streams[section])
    for ages in (found.newest, found.oldest, total.newest, total.oldest):
        _to_ages(ages.ravel(), times)
    return (
        found.number,
        found.newest,
        found.oldest,
        found.within,
        total.number[0, 0],
        total.newest[0, 0],
        total.oldest[0, 0],
        total.within[0, 0],
    )


@kernel
def _first_within(times: Times, within_ms: I64) -> I64:
    """Gives the position in the time order of the first behavior no older than each age; the cut = none. (E,)."""
    first = np.empty(len(within_ms), np.int64)
    for at in range(len(within_ms)):
        start, stop = 0, times.cut
        while start < stop:
            middle = (start + stop) >> 1
            if times.as_of_ms - times.timestamp_ms[times.order[middle]] > within_ms[at]:
                start = middle + 1
            else:
                stop = middle
        first[at] = start
    return first


@kernel
def _count_own(rank: U32, own: OwnRows, section_streams: I64, first: I64, found: Matches) -> None:
    """Writes what matches at level 0; the rows of each range stand in time order."""
    for candidate in range(len(own.start) - 1):
        for at in range(own.start[candidate], own.start[candidate + 1]):
            stream = int(section_streams[own.section[at]])
            if stream >= 0:
                _add_own(rank, own.low[at], own.high[at], first, found, candidate, stream)


@kernel
def _add_own(rank: U32, low: int, high: int, first: I64, found: Matches, candidate: int, stream: int) -> None:
    oldest, newest = np.int64(rank[low]), np.int64(rank[high - 1])
    _add_ages(found, candidate, 0, stream, newest, oldest)
    found.number[candidate, 0, stream] += high - low
    for age in range(len(first)):
        if first[age] <= oldest:
            found.within[candidate, 0, stream, age] += high - low
        elif first[age] <= newest:
            found.within[candidate, 0, stream, age] += high - lower_bound(rank, low, high, first[age])


@kernel
def _count_intervals(times: Times, low: I64, high: I64, first: I64) -> Matches:
    """Gives what is known of the rows before the cut in each interval and section.

    Args:
        times: Of the history.
        low: First row of each interval in each section. (A, S)
        high: End. (A, S)
        first: See `_first_within`. (E,)

    Returns:
        Arrays (A, S), and (A, S, E).
    """
    rank, order, cut = times.rank, times.order, times.cut
    number = np.zeros(low.shape, np.int32)
    newest, oldest = np.full(low.shape, -1, np.int64), np.full(low.shape, -1, np.int64)
    within = np.zeros((low.shape[0], low.shape[1], len(first)), np.int32)
    for at in range(len(low)):
        for section in range(low.shape[1]):
            start, stop = low[at, section], high[at, section]
            size = stop - start
            if size > 0 and cut < len(rank):
                size = _count_between(rank[start:stop], 0, cut)
            if size <= 0:
                continue
            number[at, section] = size
            if _STEP_COST * cut < size * (stop - start):
                position = cut - 1
                while not start <= order[position] < stop:
                    position -= 1
                newest[at, section] = position
                position = 0
                while not start <= order[position] < stop:
                    position += 1
                oldest[at, section] = position
            else:
                newest[at, section] = _newest_before(rank[start:stop], np.uint32(cut))
                oldest[at, section] = rank[start:stop].min()
            _count_within(times, start, stop, first, Matches(number, newest, oldest, within), at, section)
    return Matches(number, newest, oldest, within)


@kernel
def _count_within(times: Times, start: int, stop: int, first: I64, found: Matches, at: int, section: int) -> None:
    """Writes `within` of the rows `[start, stop)`, of which all else is known; it reads the shorter of two lists."""
    end, counted = found.newest[at, section] + 1, np.int32(0)
    for age in range(len(first)):
        begin = first[age]
        if begin <= found.oldest[at, section]:
            counted = found.number[at, section]
        elif begin < end:
            if end - begin < stop - start:
                counted += np.int32(_count_between(times.order[begin:end], start, stop))
            else:
                counted += np.int32(_count_between(times.rank[start:stop], begin, end))
            end = begin
        found.within[at, section, age] = counted


@kernel
def _count_between(values: U32, low: int, high: int) -> int:
    count, least, end = 0, np.uint32(low), np.uint32(high)
    for at in range(len(values)):
        count += int((values[at] >= least) & (values[at] < end))
    return count


@kernel
def _newest_before(rank: U32, cut: np.uint32) -> np.int64:
    """Gives the largest rank below the cut; there is one."""
    newest = np.uint32(0)
    for at in range(len(rank)):
        value = rank[at] + np.uint32(1) if rank[at] < cut else np.uint32(0)
        newest = max(newest, np.uint32(value))
    return np.int64(newest) - 1


@kernel
def _spread(of_interval: Matches, intervals: Intervals, section_streams: I64, found: Matches) -> None:
    """Writes what matches the candidates at level 1 and above."""
    number = of_interval.number
    for candidate in range(found.number.shape[0]):
        begin, end = intervals.chain_start[candidate], intervals.chain_start[candidate + 1]
        for level in range(1, found.number.shape[1]):
            for one in range(begin, end):
                interval = intervals.chain[one, level]
                if interval < 0 or _is_inside_another(intervals, begin, end, one, level):
                    continue
                for section in range(len(section_streams)):
                    if section_streams[section] >= 0 and number[interval, section] > 0:
                        _add(of_interval, interval, section, found, candidate, level, section_streams[section])


@kernel
def _is_inside_another(intervals: Intervals, first: int, last: int, one: int, level: int) -> bool:
    """Says whether another chain's interval of the level holds this one's rows; of equal ones the first counts."""
    chain, node, end = intervals.chain, intervals.node, intervals.end
    mine = chain[one, level]
    for other in range(first, last):
        theirs = chain[other, level]
        if theirs == mine:
            if other < one:
                return True
        elif theirs >= 0 and node[theirs] <= node[mine] and end[mine] <= end[theirs]:
            return True
    return False


@kernel
def _add(rows: Matches, at: int, section: int, found: Matches, candidate: int, level: int, stream: int) -> None:
    """Adds some rows to what matches a candidate."""
    _add_ages(found, candidate, level, stream, rows.newest[at, section], rows.oldest[at, section])
    found.number[candidate, level, stream] += rows.number[at, section]
    for age in range(found.within.shape[3]):
        found.within[candidate, level, stream, age] += rows.within[at, section, age]


@kernel
def _add_ages(found: Matches, candidate: int, level: int, stream: int, newest: np.int64, oldest: np.int64) -> None:
    found.newest[candidate, level, stream] = max(found.newest[candidate, level, stream], newest)
    if found.oldest[candidate, level, stream] < 0 or oldest < found.oldest[candidate, level, stream]:
        found.oldest[candidate, level, stream] = oldest


@kernel
def _to_ages(positions: I64, times: Times) -> None:
    """Puts the age of the behavior at each position of the time order in its place; -1 = none stays."""
    for at in range(len(positions)):
        if positions[at] >= 0:
            positions[at] = times.as_of_ms - times.timestamp_ms[times.order[positions[at]]]
