"""Match statistics: how many behaviors match each candidate at each level, and how old they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.statistics_kernels import Times, count_and_age
from store.retrieval import MatchStatistics

if TYPE_CHECKING:
    from search_stage.config import StatisticsConfig
    from search_stage.hard.levels import LevelMatches
    from store.types import F32, I64


def match_statistics(
    matches: LevelMatches,
    streams: tuple[tuple[str, str], ...],
    section_streams: I64,
    as_of_ms: int,
    config: StatisticsConfig,
    similarity: F32,
) -> MatchStatistics:
    """Counts matches and their ages per candidate, level and stream.

    Cost: O(A S (E + min(R, W))) for A distinct intervals, S sections, E ages, R rows of an interval, and W behaviors
    younger than the largest age. Mutates nothing.

    Args:
        matches: The level matches of the request, of at least as many levels as are answered.
        streams: Every stream of the store generation, (domain, action) names.
        section_streams: Position in `streams` of each section of the user; -1 = it is none of them. (S,)
        as_of_ms: The request's time.
        config: Levels and ages to answer.
        similarity: What `profiles.similarities` gave.
    """
    history = matches.history
    within_ms = np.array(config.within_ms, np.int64)
    found = count_and_age(
        Times(history.rank, history.order, history.timestamp_ms, history.cut, as_of_ms),
        history.section_start,
        section_streams,
        matches.intervals,
        matches.own,
        config.levels,
        len(streams),
        within_ms,
    )
    count, age_ms, oldest_age_ms, within, total_count, total_age_ms, total_oldest_age_ms, total_within = found
    return MatchStatistics(
        streams=streams,
        within_ms=within_ms,
        count=count,
        age_ms=age_ms,
        oldest_age_ms=oldest_age_ms,
        within=within,
        total_count=total_count,
        total_age_ms=total_age_ms,
        total_oldest_age_ms=total_oldest_age_ms,
        total_within=total_within,
        half_life_ms=np.array(config.half_life_ms, np.int64),
        similarity=similarity,
    )
