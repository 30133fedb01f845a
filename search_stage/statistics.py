"""Match statistics: how many behaviors match each candidate at each level, and how old the newest is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.kernels.compiled import kernel
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
    count, newest = count_intervals(
        history.rank, history.order, history.cut, history.section_start, matches.intervals.low, matches.intervals.high
    )
    total_count, total_newest = count_intervals(
        history.rank,
        history.order,
        history.cut,
        history.section_start,
        history.section_start[:-1].reshape(1, -1),
        history.section_start[1:].reshape(1, -1),
    )
    shape = (len(matches), num_levels, len(streams))
    out_count, out_newest = np.zeros(shape, np.int32), np.full(shape, -1, np.int64)
    spread(
        count,
        newest,
        matches.intervals,
        matches.own,
        history.rank,
        section_streams,
        out_count,
        out_newest,
    )
    known = np.flatnonzero(section_streams >= 0)
    totals, total_ranks = np.zeros(len(streams), np.int32), np.full(len(streams), -1, np.int64)
    totals[section_streams[known]] = total_count[0, known]
    total_ranks[section_streams[known]] = total_newest[0, known]
    return MatchStatistics(
        streams=streams,
        count=out_count,
        age_ms=ages(out_newest.ravel(), history.order, history.timestamp_ms, as_of_ms).reshape(shape),
        total_count=totals,
        total_age_ms=ages(total_ranks, history.order, history.timestamp_ms, as_of_ms),
    )


@kernel
def count_intervals(rank: U32, order: U32, cut: int, section_start: I64, low: I64, high: I64) -> tuple[I64, I64]:
    """Gives the rows before the cut in each interval and section, and the position of the newest, -1 = none.

    Args:
        rank: Of each row. (N,)
        order: Its inverse. (N,)
        cut: Behaviors that exist.
        section_start: First row of each section, and the end. (S + 1,)
        low: First row of each interval in each section. (A, S)
        high: End. (A, S)

    Returns:
        Two arrays (A, S).
    """
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
    `match_statistics`.
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
def ages(position: I64, order: U32, timestamp_ms: I64, as_of_ms: int) -> I64:
    """Gives the as-of time less the time of the behaviors at some positions of the time order, -1 = none. (n,)."""
    age = np.full(len(position), -1, np.int64)
    for at in range(len(position)):
        if position[at] >= 0:
            age[at] = as_of_ms - timestamp_ms[order[position[at]]]
    return age
