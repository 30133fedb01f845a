"""What a model says of the impressions of a split: logits, calibrated probabilities, and metrics of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_stage.calibration import Calibration
from model_stage.config.schema import load_yaml
from model_stage.evaluation.metrics import logloss
from model_stage.evaluation.reliability import calibration_error
from model_stage.evaluation.report import or_nan, report_by_target
from model_stage.evaluation.slices import row_facts
from model_stage.training.data_check import check_split, check_times, share_with_history
from model_stage.training.example_folder import opened_folder
from model_stage.training.impressions import Splits, load_impressions
from model_stage.training.retrieval import ExampleSource
from model_stage.training.trainer import logits_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from model_stage.bundle import Bundle
    from model_stage.config.targets import Targets
    from model_stage.evaluation.slices import RowFacts
    from model_stage.networks import RankingNetwork
    from model_stage.training.example_folder import ExampleFolder
    from model_stage.training.examples import Examples
    from model_stage.types import Retriever
    from store.dataset.impressions import Impressions
    from store.reading.snapshot import Snapshot
    from store.types import F32, F64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The impressions of a split with a model's probabilities."""

    bundle: str
    impressions: Impressions
    probability: F64
    """(N, T)"""
    metrics: dict[str, dict[str, float]]
    """Of each target."""
    requests_with_history: float
    """Share of the requests whose user has a behavior before, of some that are spread over all."""
    facts: RowFacts | None
    """What the impressions can be cut by, if asked for."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.metrics)


def score_split(
    bundle: Bundle,
    dataset: Path,
    split: str,
    snapshot: Snapshot,
    retriever: Retriever,
    *,
    examples: ExampleFolder | None = None,
    with_facts: bool = False,
    on_request: Callable[[int, int], None] = lambda done, total: None,
) -> Scored:
    """Scores a split with a bundle, retrieving as of each request's own time.

    Args:
        bundle: The model.
        dataset: Directory of the input contract with impressions and splits.json.
        split: One of `SPLITS`.
        snapshot: Store generation the retriever reads.
        retriever: What will also serve.
        examples: Where retrieved examples are kept for the next run; None = nowhere.
        with_facts: Whether to gather what the impressions can be cut by, too: one look-up a request.
        on_request: Called with (impressions done, impressions in all) while they are retrieved.
    """
    schema, targets = bundle.schema, bundle.targets
    every = load_impressions(dataset, schema, targets.names)
    splits = load_yaml(dataset / "splits.json", Splits)
    impressions = splits.select(every, split)
    check_split(splits, every, split, impressions)
    check_times(every, snapshot)
    history = share_with_history(impressions, snapshot)
    with opened_folder(examples) as folder:
        source = ExampleSource(
            schema=schema,
            preset=bundle.network_config.preset,
            vocabularies=bundle.vocabularies,
            snapshot=snapshot,
            retriever=retriever,
            folder=folder,
        )
        found = source.examples(split, impressions, on_request)
        logits = logits_by_row(bundle.network, found)
        learned = splits.select(every, "train")
        facts = row_facts(impressions, learned, found.requests, found.rows, snapshot) if with_facts else None
    return Scored(
        bundle=bundle.name,
        impressions=impressions,
        probability=bundle.calibration.probabilities(logits, targets.names, targets.given),
        metrics=calibrated_report(impressions, logits, bundle.calibration, targets),
        requests_with_history=history,
        facts=facts,
    )


def logits_by_row(network: RankingNetwork, examples: Examples) -> F32:
    """Gives the logits of the impressions that examples came from, in the order of the impressions. (N, T)."""
    logits = logits_of(network, examples)
    by_row = np.empty_like(logits)
    by_row[examples.rows] = logits
    return by_row


def calibrated_report(
    impressions: Impressions, logits: F32, calibration: Calibration, targets: Targets
) -> dict[str, dict[str, float]]:
    """Gives the metrics of each target, and log loss and calibration error as they were before the calibration."""
    names, found = targets.names, calibration.probabilities(logits, targets.names, targets.given)
    report = report_by_target(impressions.labels, found, impressions.user, names)
    for at, (name, numbers) in enumerate(report.items()):
        known = ~np.isnan(impressions.labels[:, at])
        label, before = impressions.labels[known, at], Calibration().probabilities(logits[known, at : at + 1], [name])
        numbers["logloss_uncalibrated"] = or_nan(logloss, label, before[:, 0])
        numbers["ece_uncalibrated"] = or_nan(calibration_error, label, before[:, 0])
    return report
