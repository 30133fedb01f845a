"""Match statistics: how many behaviors match each candidate at each level, and how old the newest is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from store.compiled import kernel
from store.retrieval import MatchStatistics

if TYPE_CHECKING:
    from search_stage.hard.level_kernels import Intervals, OwnRows
    from search_stage.hard.levels import LevelMatches
    from store.types import I32, I64, U32

_STEP_COST = 8
"""A step of a walk through the time order, in rows of a scan that takes many at once."""


def match_statistics(
    matches: LevelMatches, streams: tuple[tuple[str, str], ...], section_streams: I64, as_of_ms: int, num_levels: int
) -> MatchStatistics:
    """Counts matches and their newest ages per candidate, level and stream.

    Args:
        matches: The level matches of the request, of at least `num_levels` levels.
        streams: Every stream of the store generation, (domain, action) names.
        section_streams: Position in `streams` of each section of the user; -1 = it is none of them. (S,)
        as_of_ms: The request's time.
        num_levels: Number of levels to answer.

    Returns:
        The statistics. Mutates nothing.
    """
    history = matches.history
    count, age_ms, total_count, total_age_ms = count_and_age(
        Times(history.rank, history.order, history.timestamp_ms, history.cut, as_of_ms),
        history.section_start,
        section_streams,
        matches.intervals,
        matches.own,
        num_levels,
        len(streams),
    )
    return MatchStatistics(
        streams=streams, count=count, age_ms=age_ms, total_count=total_count, total_age_ms=total_age_ms
    )


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


@kernel
def count_and_age(
    times: Times,
    section_start: I64,
    section_streams: I64,
    intervals: Intervals,
    own: OwnRows,
    num_levels: int,
    num_streams: int,
) -> tuple[I32, I64, I32, I64]:
    """Gives `count`, `age_ms`, `total_count` and `total_age_ms` of `MatchStatistics`.

    Args:
        times: Of the history.
        section_start: First row of each section, and the end. (S + 1,)
        section_streams: Stream of each section; -1 = it is none. (S,)
        intervals: What matches at level 1 and above.
        own: What matches at level 0.
        num_levels: Levels to answer.
        num_streams: Streams of the generation.
    """
    shape = (len(own.start) - 1, num_levels, num_streams)
    count, age = np.zeros(shape, np.int32), np.full(shape, -1, np.int64)
    of_interval, newest = count_intervals(times, intervals.low, intervals.high)
    spread(of_interval, newest, intervals, own, times.rank, section_streams, count, age)
    _to_ages(age.ravel(), times)
    total, total_age = np.zeros(num_streams, np.int32), np.full(num_streams, -1, np.int64)
    sections = len(section_streams)
    low, high = section_start[:-1].copy().reshape(1, sections), section_start[1:].copy().reshape(1, sections)
    of_section, newest = count_intervals(times, low, high)
    for section in range(sections):
        if section_streams[section] >= 0:
            total[section_streams[section]] = of_section[0, section]
            total_age[section_streams[section]] = newest[0, section]
    _to_ages(total_age, times)
    return count, age, total, total_age


@kernel
def count_intervals(times: Times, low: I64, high: I64) -> tuple[I64, I64]:
    """Gives the rows before the cut in each interval and section, and the position of the newest, -1 = none.

    Args:
        times: Of the history.
        low: First row of each interval in each section. (A, S)
        high: End. (A, S)

    Returns:
        Two arrays (A, S).
    """
    rank, order, cut = times.rank, times.order, times.cut
    count, newest = np.zeros(low.shape, np.int64), np.full(low.shape, -1, np.int64)
    is_whole = cut == len(rank)
    for at in range(len(low)):
        for section in range(low.shape[1]):
            start, stop = low[at, section], high[at, section]
            size = stop - start
            if size <= 0:
                continue
            if is_whole:
                count[at, section] = size
            else:
                size = _count_before(rank[start:stop], np.uint32(cut))
                count[at, section] = size
                if size == 0:
                    continue
            if _STEP_COST * cut < size * (stop - start):
                position = cut - 1
                while not start <= order[position] < stop:
                    position -= 1
                newest[at, section] = position
            else:
                newest[at, section] = _newest_before(rank[start:stop], np.uint32(cut))
    return count, newest


@kernel
def _count_before(rank: U32, cut: np.uint32) -> int:
    count = 0
    for at in range(len(rank)):
        count += rank[at] < cut
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
def spread(
    count: I64,
    newest: I64,
    intervals: Intervals,
    own: OwnRows,
    rank: U32,
    section_streams: I64,
    out_count: I32,
    out_newest: I64,
) -> None:
    """Writes the numbers of the candidates into `out_count`, zeros, and `out_newest`, -1s, both (C, L, streams).

    Newest behaviors are positions in the time order. The other names are those of `count_intervals` and
    `count_and_age`.
    """
    for candidate in range(out_count.shape[0]):
        for at in range(own.start[candidate], own.start[candidate + 1]):
            stream = section_streams[own.section[at]]
            if stream >= 0:
                out_count[candidate, 0, stream] += own.high[at] - own.low[at]
                position = np.int64(rank[own.high[at] - 1])
                out_newest[candidate, 0, stream] = max(out_newest[candidate, 0, stream], position)
        first, last = intervals.chain_start[candidate], intervals.chain_start[candidate + 1]
        for level in range(1, out_count.shape[1]):
            for one in range(first, last):
                interval = intervals.chain[one, level]
                if interval < 0 or _is_inside_another(intervals, first, last, one, level):
                    continue
                for section in range(len(section_streams)):
                    stream = section_streams[section]
                    if stream >= 0 and count[interval, section] > 0:
                        out_count[candidate, level, stream] += count[interval, section]
                        position = newest[interval, section]
                        out_newest[candidate, level, stream] = max(out_newest[candidate, level, stream], position)


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
def _to_ages(newest: I64, times: Times) -> None:
    """Puts the age of the behavior at each position of the time order in its place; -1 = none stays."""
    for at in range(len(newest)):
        if newest[at] >= 0:
            newest[at] = times.as_of_ms - times.timestamp_ms[times.order[newest[at]]]
