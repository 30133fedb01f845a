"""The plain twin of the match statistics: one behavior after another, for every candidate anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.retrieval import MatchStatistics
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_stage.config import StatisticsConfig
    from search_stage.index.generation import IndexGeneration
    from search_stage.reference import Candidate, Row
    from store.reading.snapshot import Snapshot
    from store.types import F32, I64, AnyArray


def reference_statistics(
    rows: Sequence[Row],
    candidates: Sequence[Candidate],
    snapshot: Snapshot,
    index: IndexGeneration | None,
    as_of_ms: int,
    config: StatisticsConfig,
) -> MatchStatistics:
    """Counts matches by age, one row at a time.

    Args:
        rows: The user's behaviors before the as-of time, oldest first.
        candidates: Resolved.
        snapshot: Names of the streams.
        index: Attention vectors, if any.
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
    return MatchStatistics(
        streams=streams,
        within_ms=within_ms,
        **found,
        **totals,
        half_life_ms=np.array(config.half_life_ms, np.int64),
        similarity=_similarities(rows, candidates, snapshot, index, as_of_ms, config),
    )


def _similarities(
    rows: Sequence[Row],
    candidates: Sequence[Candidate],
    snapshot: Snapshot,
    index: IndexGeneration | None,
    as_of_ms: int,
    config: StatisticsConfig,
) -> F32:
    """Gives the cosine of each candidate and each profile; what is within rounding of zero has no direction."""
    names = snapshot.vocabulary
    similar = np.full((len(candidates), len(snapshot.streams), len(config.half_life_days)), np.nan, np.float32)
    if index is None:
        return similar
    for stream, half_life in np.ndindex(similar.shape[1:]):
        days, profile, mass = config.half_life_days[half_life], np.zeros(index.table.shape[1]), 0.0
        for row in rows:
            if (names.domains[row.domain], names.actions[row.action]) == snapshot.streams[stream]:
                weight = 1.0 if days is None else 0.5 ** ((as_of_ms - row.timestamp_ms) / (days * DAY_MS))
                vector = index.take(np.array([row.node]))[0].astype(np.float64)
                profile, mass = profile + weight * vector, mass + weight * float(np.linalg.norm(vector))
        for at, candidate in enumerate(candidates):
            query = index.take(np.array([candidate.query_node]))[0].astype(np.float64)
            if np.linalg.norm(profile) > 1e-9 * mass and query.any():
                product = query @ profile
                similar[at, stream, half_life] = product / (np.linalg.norm(query) * np.linalg.norm(profile))
    return similar


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
