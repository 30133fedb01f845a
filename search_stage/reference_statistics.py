"""The plain twin of the match statistics: one behavior after another, for every candidate anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.retrieval import MatchStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_stage.config import StatisticsConfig
    from search_stage.reference import Candidate, Row
    from store.reading.snapshot import Snapshot
    from store.types import I64, AnyArray


def reference_statistics(
    rows: Sequence[Row], candidates: Sequence[Candidate], snapshot: Snapshot, as_of_ms: int, config: StatisticsConfig
) -> MatchStatistics:
    """Counts matches by age, one row at a time.

    Args:
        rows: The user's behaviors before the as-of time, oldest first.
        candidates: Resolved.
        snapshot: Names of the streams.
        as_of_ms: The request's time.
        config: Levels and ages to answer.
    """
    streams, names = snapshot.streams, snapshot.vocabulary
    within_ms = np.array(config.within_ms, np.int64)
    found = _no_matches((len(candidates), config.levels, len(streams)), len(within_ms))
    total = _no_matches((len(streams),), len(within_ms))
    for row in rows:
        named = (names.domains[row.domain], names.actions[row.action])
        if named not in streams:  # new in the delta
            continue
        stream, age_ms = streams.index(named), as_of_ms - row.timestamp_ms
        _add(total, (stream,), age_ms, within_ms)
        for at, candidate in enumerate(candidates):
            for level in range(config.levels):
                if candidate.holds(row, level):
                    _add(found, (at, level, stream), age_ms, within_ms)
    totals = {f"total_{name}": values for name, values in total.items()}
    return MatchStatistics(streams=streams, within_ms=within_ms, **found, **totals)


def _no_matches(shape: tuple[int, ...], num_ages: int) -> dict[str, AnyArray]:
    return {
        "count": np.zeros(shape, np.int32),
        "age_ms": np.full(shape, -1, np.int64),
        "oldest_age_ms": np.full(shape, -1, np.int64),
        "within": np.zeros((*shape, num_ages), np.int32),
    }


def _add(found: dict[str, AnyArray], place: tuple[int, ...], age_ms: int, within_ms: I64) -> None:
    """Notes a match that is no older than those before it."""
    if found["count"][place] == 0:
        found["oldest_age_ms"][place] = age_ms
    found["age_ms"][place] = age_ms
    found["count"][place] += 1
    found["within"][place] += age_ms <= within_ms
