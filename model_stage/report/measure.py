"""Measures what the page says: metrics with intervals, slices, reliability, learned encodings and what a request costs.

Legend: N impressions, T targets.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from model_stage.evaluation.metrics import Estimate, Metric, bootstrap, paired_bootstrap
from model_stage.evaluation.reliability import reliability
from model_stage.evaluation.slices import slices_of
from model_stage.evaluation.verdict import METRICS, compare
from model_stage.inspection.positions import grids_of, learned
from model_stage.ranking.ranker import Ranker
from model_stage.report.content import BundleReport, Cost, Report, SliceNumbers, SliceReport, TargetReport
from model_stage.training.impressions import requests_of
from model_stage.training.scoring import score_split

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from model_stage.bundle import Bundle
    from model_stage.evaluation.verdict import Verdict
    from model_stage.inspection.facts import BundleFacts
    from model_stage.training.example_folder import ExampleFolder
    from model_stage.training.scoring import Scored
    from model_stage.types import RankRequest, Retriever, Versions
    from store.reading.snapshot import Snapshot
    from store.retrieval import SearchRequest
    from store.types import F32, F64, I64, U64

OnProgress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
SLICE_RESAMPLES = 200
TIMED_REQUESTS = 200
_WARM_UP = 5
_PACKAGES = ("lookback", "torch", "numpy", "numba", "pyarrow", "lmdb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A bundle with what retrieves for it."""

    bundle: Bundle
    facts: BundleFacts
    snapshot: Snapshot
    retriever: Retriever
    examples: ExampleFolder | None


def _say_nothing(what: str, done: int, total: int) -> None:
    """The progress that nobody looks at."""


def measure(
    dataset: Path,
    split: str,
    ours: Opened,
    theirs: Opened | None,
    *,
    tolerance: float,
    resamples: int,
    on_progress: OnProgress = _say_nothing,
) -> Report:
    """Measures a bundle on a split, and beside another where there is one.

    Args:
        dataset: Directory of the input contract with impressions and splits.json.
        split: One of `SPLITS`.
        ours: The bundle.
        theirs: The one that it would replace; None = there is none.
        tolerance: See `model_stage.evaluation.verdict`.
        resamples: Of each interval on the whole split; slices have `SLICE_RESAMPLES`.
        on_progress: Called with (what, done, total).
    """
    scored = _score(ours, dataset, split, on_progress)
    compared = None if theirs is None else _score(theirs, dataset, split, on_progress)
    impressions = scored.impressions
    return Report(
        dataset=dataset.name,
        split=split,
        from_ms=int(impressions.timestamp_ms.min()),
        until_ms=int(impressions.timestamp_ms.max()),
        impressions=len(impressions),
        users=len(np.unique(impressions.user)),
        bundle=_bundle_report(ours, scored, compared, resamples, on_progress),
        packages={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        against=None
        if theirs is None or compared is None
        else _bundle_report(theirs, compared, None, resamples, on_progress),
        verdict=None if compared is None else _verdict(scored, compared, tolerance, resamples),
    )


def _score(one: Opened, dataset: Path, split: str, on_progress: OnProgress) -> Scored:
    return score_split(
        one.bundle,
        dataset,
        split,
        one.snapshot,
        one.retriever,
        examples=one.examples,
        with_facts=True,
        on_request=partial(on_progress, f"retrieve for {one.bundle.name}"),
    )


def _verdict(scored: Scored, compared: Scored, tolerance: float, resamples: int) -> Verdict:
    """Judges by the targets that both bundles have; both scored the same impressions in the same order."""
    shared = [target for target in scored.targets if target in compared.targets]
    ours, theirs = ([one.targets.index(target) for target in shared] for one in (scored, compared))
    return compare(
        scored.impressions.labels[:, ours],
        scored.probability[:, ours],
        compared.probability[:, theirs],
        scored.impressions.user,
        shared,
        tolerance=tolerance,
        resamples=resamples,
    )


def _bundle_report(
    opened: Opened, scored: Scored, against: Scored | None, resamples: int, on_progress: OnProgress
) -> BundleReport:
    bundle = opened.bundle
    cost, versions = _cost(opened, scored, on_progress)
    return BundleReport(
        facts=opened.facts,
        targets={name: _target_report(scored, at, resamples) for at, name in enumerate(scored.targets)},
        slices=_slice_reports(scored, against, on_progress),
        curves=learned(bundle, grids_of(bundle.targets.targets), bundle.targets.names),
        cost=cost,
        versions=versions,
    )


def _target_report(scored: Scored, at: int, resamples: int) -> TargetReport:
    labels = scored.impressions.labels[:, at]
    (known,) = np.nonzero(~np.isnan(labels))
    label, probability, user = labels[known], scored.probability[known, at], scored.impressions.user[known]
    found: dict[Metric, Estimate] = {}
    for metric in METRICS:
        estimate = _estimate(label, probability, user, metric, resamples)
        found |= {metric: estimate} if estimate is not None else {}
    return TargetReport(
        metrics=scored.metrics[scored.targets[at]],
        intervals=found,
        bins=reliability(label, probability),
    )


def _estimate(label: F32, score: F64, user: U64, metric: Metric, resamples: int) -> Estimate | None:
    """Gives a metric with its interval; None where there is none to give."""
    try:
        return bootstrap(label, score, user, metric=metric, seed=0, num_resamples=resamples)
    except ValueError:  # no rows of both classes; everything else about the rows was checked when they were scored
        return None


def _slice_reports(scored: Scored, against: Scored | None, on_progress: OnProgress) -> list[SliceReport]:
    assert scored.facts is not None
    cuts, found = slices_of(scored.facts), []
    for number, cut in enumerate(cuts):
        found.append(
            SliceReport(
                kind=cut.kind,
                label=cut.label,
                impressions=len(cut.rows),
                users=len(np.unique(scored.impressions.user[cut.rows])),
                targets={name: _slice_numbers(scored, against, name, cut.rows) for name in scored.targets},
            )
        )
        on_progress("measure slices", number + 1, len(cuts))
    return found


def _slice_numbers(scored: Scored, against: Scored | None, target: str, rows: I64) -> SliceNumbers:
    at = scored.targets.index(target)
    known = rows[~np.isnan(scored.impressions.labels[rows, at])]
    label, user = scored.impressions.labels[known, at], scored.impressions.user[known]
    score = scored.probability[known, at]
    auc = _estimate(label, score, user, "auc", SLICE_RESAMPLES)
    gain = None
    if auc is not None and against is not None and target in against.targets:
        other = against.probability[known, against.targets.index(target)]
        gain = paired_bootstrap(label, score, other, user, metric="auc", seed=0, num_resamples=SLICE_RESAMPLES)
    return SliceNumbers(
        positives=int(label.sum()),
        impressions=len(known),
        auc=auc,
        gauc=_estimate(label, score, user, "gauc", SLICE_RESAMPLES),
        gain=gain,
    )


def _cost(opened: Opened, scored: Scored, on_progress: OnProgress) -> tuple[Cost, Versions]:
    """Ranks some requests of the split, evenly spread, one after another."""
    requests = [request for _, request in requests_of(scored.impressions, opened.bundle.schema)]
    chosen = [requests[at] for at in np.unique(np.linspace(0, len(requests) - 1, TIMED_REQUESTS).astype(np.int64))]
    ranker = Ranker(opened.bundle, opened.retriever)
    for request in chosen[:_WARM_UP]:
        ranker.rank(request)
    whole, search = [], []
    for done, request in enumerate(chosen, start=1):
        search.append(_seconds(partial(opened.retriever.search, _query(opened.bundle, request))))
        whole.append(_seconds(partial(ranker.rank, request)))
        on_progress("time requests", done, len(chosen))
    cost = Cost(
        requests=len(chosen),
        candidates=float(np.mean([len(request.candidates) for request in chosen])),
        request_ms=_quantiles_ms(whole),
        search_ms=_quantiles_ms(search),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    )
    return cost, ranker.rank(chosen[0]).versions


def _query(bundle: Bundle, request: RankRequest) -> SearchRequest:
    return request.query(newest=bundle.network_config.preset.newest_read, behavior_fields=bundle.schema.side_info)


def _seconds(work: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def _quantiles_ms(seconds: Iterable[float]) -> tuple[float, float]:
    median, high = np.quantile(np.array([*seconds]) * 1000, [0.5, 0.95])
    return float(median), float(high)
