"""Match statistics: how many behaviors match each candidate at each level, and how old the newest is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.reading.retrieval import MatchStatistics

if TYPE_CHECKING:
    from search_stage.levels import LevelMatches
    from search_stage.runs import NodeRuns
    from store.types import I64

_NEVER = int(np.iinfo(np.int64).min)
"""Stands in for the time of no behavior while maxima are taken."""


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
    runs = matches.runs
    num_sections = len(section_streams)
    newest_ms = runs.columns.timestamp_ms[runs.newest_row]
    shape = (matches.num_candidates, num_levels, num_sections)
    count = np.zeros(shape, np.int64)
    newest = np.full(shape, _NEVER, np.int64)

    at = matches.own_candidate * num_sections + runs.section[matches.own_run]
    own_count, own_newest = np.zeros(shape[0] * num_sections, np.int64), np.full(shape[0] * num_sections, _NEVER)
    np.add.at(own_count, at, runs.length[matches.own_run])
    np.maximum.at(own_newest, at, newest_ms[matches.own_run])
    count[:, 0] = own_count.reshape(shape[0], num_sections)
    newest[:, 0] = own_newest.reshape(shape[0], num_sections)

    intervals = matches.intervals[matches.category, 1:num_levels]
    count[:, 1:] = (runs.start[matches.high] - runs.start[matches.low])[intervals]
    newest[:, 1:] = _newest_of_intervals(matches, newest_ms)[intervals]

    total_count, total_newest = _totals(runs, newest_ms)
    return MatchStatistics(
        streams=streams,
        count=_spread(count, section_streams, len(streams), 0).astype(np.int32),
        age_ms=_spread(_age(newest, as_of_ms), section_streams, len(streams), -1),
        total_count=_spread(total_count, section_streams, len(streams), 0).astype(np.int32),
        total_age_ms=_spread(_age(total_newest, as_of_ms), section_streams, len(streams), -1),
    )


def _newest_of_intervals(matches: LevelMatches, newest_ms: I64) -> I64:
    """Gives the time of the newest row of each interval in each section, (A, S); `_NEVER` = none."""
    newest = np.full(matches.low.shape, _NEVER, np.int64)
    padded = np.append(newest_ms, _NEVER)
    for section in range(matches.low.shape[1]):
        # Intervals ascend by their first node, so the gaps that reduceat also reduces overlap at most once.
        some = np.flatnonzero(matches.high[:, section] > matches.low[:, section])
        if len(some):
            bounds = np.column_stack((matches.low[some, section], matches.high[some, section])).ravel()
            newest[some, section] = np.maximum.reduceat(padded, bounds)[::2]
    return newest


def _totals(runs: NodeRuns, newest_ms: I64) -> tuple[I64, I64]:
    """Gives the number of rows and the newest time of each section; no section is empty. Each (S,)."""
    if not len(runs):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = np.diff(runs.start[runs.section_start])
    return rows, np.maximum.reduceat(newest_ms, runs.section_start[:-1])


def _age(newest_ms: I64, as_of_ms: int) -> I64:
    return np.where(newest_ms == _NEVER, -1, as_of_ms - newest_ms)


def _spread(by_section: I64, section_streams: I64, num_streams: int, fill: int) -> I64:
    """Puts the last axis from the user's sections to the generation's streams."""
    out = np.full((*by_section.shape[:-1], num_streams), fill, np.int64)
    known = section_streams >= 0
    out[..., section_streams[known]] = by_section[..., known]
    return out
