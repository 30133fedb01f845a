"""The whole measurement: draws a sample of users, searches their requests, and sums up what was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from search_stage.searcher import Searcher
from search_stage.study.approximate import ApproximateMeasure
from search_stage.study.association import learn_association
from search_stage.study.coverage import ClimbMeasure, OverlapMeasure
from search_stage.study.groups import CategoryGroups
from search_stage.study.lift import LiftMeasure
from search_stage.study.policies import policies
from search_stage.study.quality import NUM_SEEDS, QualityMeasure
from search_stage.study.rankings import list_everything, ranked_histories
from search_stage.study.sample import draw_sample
from store.retrieval import Candidates, SearchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from search_stage.config import SearchConfig
    from search_stage.index.generation import IndexGeneration
    from search_stage.study.approximate import ApproximateRecall
    from search_stage.study.association import Association
    from search_stage.study.coverage import Coverage, Overlap
    from search_stage.study.lift import LevelLift
    from search_stage.study.quality import Quality
    from search_stage.study.sample import LabelledRows, Sample
    from store.behavior_store import BehaviorStore

    Progress = Callable[[str, float], None]

MAX_CANDIDATES = 256
"""Of one request, drawn at random."""
MAX_RANKED_CANDIDATES = 32
"""Candidates of one request whose whole ranking is measured, drawn at random."""
MAX_LEVELS = 8
SPEAKS = "all that says something"
"""Worth = mutual information, as the paper has it."""
SPEAKS_FOR = "what speaks for the candidate"
"""The same, but 0 for a behavior after which a positive label is rarer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much is measured."""

    num_users: int
    """Of each seed's sample; the union of `NUM_SEEDS` samples is searched."""
    seed: int
    """The first of the seeds."""
    depth: int
    """Of the categories whose association with the label is learned; 1 = the top ones."""
    target: str | None = None
    """Whose labels; None = the target with the most positives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the worth of behaviors was learned from."""

    num_rows: int
    num_positives: int
    num_categories: int
    depth: int
    num_cells: int
    """Dense ones: candidate category, position bucket, behavior category."""
    against: float
    """Share of them that speak against the candidate."""
    judged: float
    """Share of the ranked behaviors that stand in a dense cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallReport:
    """Everything that was measured."""

    origin: str
    target: str
    settings: Settings
    store_generation: str
    index_generation: str
    """Empty = no index: soft search was off."""
    approximate: ApproximateRecall | None
    """None = no index."""
    config: SearchConfig
    num_users: int
    """Users searched."""
    coverage: Coverage
    overlap: Overlap
    lift: tuple[LevelLift, ...]
    truth: Truth
    quality: Mapping[str, Quality]
    """By what counts as worth: `SPEAKS` and `SPEAKS_FOR`."""


def measure(
    store: BehaviorStore,
    index: IndexGeneration | None,
    config: SearchConfig,
    folder: Path,
    settings: Settings,
    progress: Progress,
) -> RecallReport:
    """Measures search on a sample of a data set's users. Changes nothing; the same every time.

    Args:
        store: The store made of the data set.
        index: The index; None = soft search is off.
        config: What is served.
        folder: The data set.
        settings: How much.
        progress: Called with the step and the share of it that is done.

    Raises:
        SampleError: The data do not give the requests that are needed.
        IndexMismatchError: The index was built for another taxonomy.
        InputError: A row of the impressions breaks the contract.
    """
    with store.snapshot() as snapshot:
        sample = draw_sample(folder, snapshot, settings.target, settings.seed)
        num_levels = min(snapshot.taxonomy.max_depth + 1, MAX_LEVELS)
        domains = snapshot.vocabulary.domains
        groups = CategoryGroups.of(snapshot.taxonomy, settings.depth)
        association = learn_association(
            sample.train, snapshot, groups, lambda done: progress("learn what behaviors are worth", done)
        )
    measures = _Measures(store, index, config, num_levels, domains)
    seeds = [np.random.default_rng(settings.seed + at) for at in range(NUM_SEEDS)]
    samples = [_users(sample, settings.num_users, generator) for generator in seeds]
    users = np.unique(np.concatenate(samples))
    rows = sample.test.select(np.flatnonzero(np.isin(sample.test.user, users)))
    done = 0
    for request in rows.requests():
        done += len(request)
        measures.add(request, groups, association, seeds[0])
        progress("search", done / len(rows))
    quality = {name: each.result(samples, seeds[0]) for name, each in measures.quality.items()}
    return RecallReport(
        origin=sample.origin,
        target=sample.target,
        settings=settings,
        store_generation=measures.served.store_generation,
        index_generation=measures.served.index_generation,
        approximate=None if measures.approximate is None else measures.approximate.result(),
        config=config,
        num_users=len(users),
        coverage=measures.climb.result(measures.num_requests, measures.overlap, config.hard),
        overlap=measures.overlap.result(),
        lift=measures.lift.result(),
        truth=_truth(sample, groups, association, settings.depth, measures),
        quality=quality,
    )


class _Measures:
    """Everything that is added up request by request."""

    def __init__(
        self,
        store: BehaviorStore,
        index: IndexGeneration | None,
        config: SearchConfig,
        num_levels: int,
        domains: Sequence[str],
    ) -> None:
        self.served = Searcher(store, index, config)
        self.overlap, self.climb, self.lift = OverlapMeasure(), ClimbMeasure(domains, num_levels), LiftMeasure()
        self.approximate = ApproximateMeasure(store, index, config) if index is not None else None
        compared = policies(config, num_levels)
        self.quality = {SPEAKS: QualityMeasure(compared), SPEAKS_FOR: QualityMeasure(compared)}
        self.num_requests = self.num_ranked = self.num_judged = 0
        """Requests; behaviors ranked, and those of them in a dense cell."""
        self._everything = Searcher(store, index, list_everything(config, num_levels))
        self._max_candidates = min(MAX_CANDIDATES, config.limits.max_candidates)

    def add(
        self, request: LabelledRows, groups: CategoryGroups, association: Association, generator: np.random.Generator
    ) -> None:
        """Searches one request and measures the answers."""
        asked = _some(request, self._max_candidates, generator)
        self.overlap.add(self.served.search(_request(asked)))
        if self.approximate is not None:
            self.approximate.add(_request(asked))
        answer = self._everything.search(_request(asked))
        self.climb.add(answer)
        self.lift.add(answer.statistics, asked.label)
        ranked = set(generator.permutation(len(asked))[:MAX_RANKED_CANDIDATES].tolist())
        for candidate, history in enumerate(ranked_histories(answer, groups, association)):
            if candidate in ranked:
                self.num_ranked += len(history)
                self.num_judged += int(np.count_nonzero(~np.isnan(history.worth)))
                for name, counted in ((SPEAKS, np.abs(history.worth)), (SPEAKS_FOR, np.maximum(history.worth, 0))):
                    self.quality[name].add(int(asked.user[0]), replace(history, worth=counted), generator)
        self.num_requests += 1


def _truth(sample: Sample, groups: CategoryGroups, association: Association, depth: int, measures: _Measures) -> Truth:
    return Truth(
        num_rows=len(sample.train),
        num_positives=int(np.count_nonzero(sample.train.label)),
        num_categories=len(groups),
        depth=depth,
        num_cells=len(association.key),
        against=float(np.count_nonzero(association.worth < 0)) / max(len(association.key), 1),
        judged=measures.num_judged / max(measures.num_ranked, 1),
    )


def _users(sample: Sample, count: int, generator: np.random.Generator) -> np.ndarray:
    users = np.unique(sample.test.user)
    return generator.choice(users, min(count, len(users)), replace=False)


def _some(request: LabelledRows, most: int, generator: np.random.Generator) -> LabelledRows:
    return request.select(np.sort(generator.permutation(len(request))[:most]))


def _request(rows: LabelledRows) -> SearchRequest:
    return SearchRequest(user=int(rows.user[0]), as_of_ms=int(rows.as_of_ms[0]), candidates=Candidates.by_id(rows.item))
