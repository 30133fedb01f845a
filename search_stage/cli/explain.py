"""Why an answer is what it is: what every search found for each candidate, how far it climbed, what had room."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from search_stage.searcher import Searcher
from search_stage.study.coverage import cumulative_matches
from search_stage.study.rankings import list_everything
from store.retrieval import NO_LEVEL, SOURCE_NAMES, TopK
from store.terminal import age_text

if TYPE_CHECKING:
    from search_stage.config import SearchConfig
    from search_stage.index.generation import IndexGeneration
    from store.behavior_store import BehaviorStore
    from store.retrieval import MatchStatistics, SearchRequest, SearchResult

REPEATS = 5
"""Runs of which the fastest counts."""
_PARTS = (
    ("history, statistics, answer", TopK(hard=0, soft=0, recent=0)),
    ("with hard search", TopK(soft=0, recent=0)),
    ("with soft search", TopK(hard=0, recent=0)),
    ("with the newest", TopK(hard=0, soft=0)),
    ("all of it", TopK()),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """Hard search for one candidate in one domain."""

    domain: str
    quota: int
    min_matches: int
    max_level: int
    matches: tuple[int, ...]
    """The user's behaviors that match at each level or below, 0 to `max_level`."""
    stop_level: int
    """Where it stopped climbing: enough was found, or `max_level` reached."""
    used: int
    """Behaviors in the list that it found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What one search put into a candidate's list."""

    source: str
    asked: int
    """The most it may put there."""
    used: int
    alone: int
    """Of these the ones that no other search found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMatches:
    """Match statistics of one (domain, action) stream, as the ranker gets them."""

    domain: str
    action: str
    count: tuple[int, ...]
    """Matches at each level, of the whole history."""
    newest_age_ms: tuple[int, ...]
    """-1 = none."""
    oldest_age_ms: tuple[int, ...]
    """-1 = none."""
    within: tuple[dict[str, int], ...]
    """At each level the matches no older than an age, by its text, the smallest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateExplanation:
    """Why one candidate's list is what it is."""

    climbs: tuple[Climb, ...]
    places: tuple[Place, ...]
    streams: tuple[StreamMatches, ...]
    """Those with any match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an answer is what it is."""

    candidates: tuple[CandidateExplanation, ...]
    timings_ms: dict[str, float]
    """Whole requests with some searches switched off, each the fastest of `REPEATS` in this process."""


def explain(
    store: BehaviorStore, index: IndexGeneration | None, config: SearchConfig, request: SearchRequest
) -> Explanation:
    """Explains the answer to one request: asks it again in other ways. Changes nothing.

    Args:
        store: The store.
        index: The index, or None.
        config: What is served.
        request: The request.

    Raises:
        InputError: The request breaks the contract.
    """
    searcher = Searcher(store, index, config)
    result = searcher.search(request)
    num_levels = config.hard.deepest_level + 1
    everything = Searcher(store, index, list_everything(config, num_levels)).search(request)
    matches = cumulative_matches(everything, len(result.vocabulary.domains), num_levels)
    timings = {name: _fastest_ms(searcher, request, top_k) for name, top_k in _PARTS}
    return Explanation(
        candidates=tuple(
            CandidateExplanation(
                climbs=_climbs(result, candidate, matches[candidate], config),
                places=_places(result, candidate, config),
                streams=_streams(result.statistics, candidate),
            )
            for candidate in range(len(request.candidates))
        ),
        timings_ms=timings,
    )


def _fastest_ms(searcher: Searcher, request: SearchRequest, top_k: TopK) -> float:
    asked = replace(request, top_k=top_k, with_names=False)
    spent_ms = []
    for _ in range(REPEATS):
        start_s = time.perf_counter()
        searcher.search(asked)
        spent_ms.append((time.perf_counter() - start_s) * 1000)
    return min(spent_ms)


def _climbs(
    result: SearchResult, candidate: int, matches: np.ndarray[tuple[int, int], np.dtype[np.int64]], config: SearchConfig
) -> tuple[Climb, ...]:
    part = slice(int(result.offsets[candidate]), int(result.offsets[candidate + 1]))
    domain = result.behaviors.domain[result.index[part]][result.match_level[part] != NO_LEVEL]
    climbs = []
    for code, name in enumerate(result.vocabulary.domains):
        policy = config.hard.policy(name)
        found = matches[code, : policy.max_level + 1].tolist()
        enough = (level for level, count in enumerate(found) if count >= policy.min_matches)
        climbs.append(
            Climb(
                domain=name,
                quota=policy.quota,
                min_matches=policy.min_matches,
                max_level=policy.max_level,
                matches=tuple(found),
                stop_level=next(enough, policy.max_level),
                used=int(np.count_nonzero(domain == code)),
            )
        )
    return tuple(climbs)


def _places(result: SearchResult, candidate: int, config: SearchConfig) -> tuple[Place, ...]:
    source = result.source[int(result.offsets[candidate]) : int(result.offsets[candidate + 1])]
    quotas = sum(config.hard.policy(domain).quota for domain in result.vocabulary.domains)
    asked = {"hard": quotas, "soft": config.soft.top_k if result.index_generation else 0, "recent": config.recent.top_k}
    return tuple(
        Place(
            source=name,
            asked=asked[name],
            used=int(np.count_nonzero(source & bit)),
            alone=int(np.count_nonzero(source == bit)),
        )
        for bit, name in SOURCE_NAMES
    )


def _streams(statistics: MatchStatistics, candidate: int) -> tuple[StreamMatches, ...]:
    count, age_ms = statistics.count[candidate], statistics.age_ms[candidate]
    oldest_age_ms, within = statistics.oldest_age_ms[candidate], statistics.within[candidate]
    ages = [age_text(within_ms) for within_ms in statistics.within_ms.tolist()]
    return tuple(
        StreamMatches(
            domain=domain,
            action=action,
            count=tuple(count[:, at].tolist()),
            newest_age_ms=tuple(age_ms[:, at].tolist()),
            oldest_age_ms=tuple(oldest_age_ms[:, at].tolist()),
            within=tuple(dict(zip(ages, level, strict=True)) for level in within[:, at].tolist()),
        )
        for at, (domain, action) in enumerate(statistics.streams)
        if count[:, at].any()
    )
