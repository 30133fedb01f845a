"""What a network says of retrieved examples: logits, calibrated probabilities, and metrics of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from model_stage.calibration import Calibration
from model_stage.encoding.batch import collate
from model_stage.evaluation.metrics import calibration_error, logloss
from model_stage.evaluation.report import report_by_target
from model_stage.training.trainer import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.bundle import Bundle
    from model_stage.config.targets import Targets
    from model_stage.networks import RankingNetwork
    from model_stage.training.trainer import Example
    from store.dataset.impressions import Impressions
    from store.types import F32

EVALUATION_CANDIDATES = 8192
"""Candidates scored at once, about."""


def evaluate_examples(
    bundle: Bundle, examples: Sequence[Example], impressions: Impressions
) -> dict[str, dict[str, float]]:
    """Gives the metrics of each target over some retrieved examples of `impressions`."""
    logits = logits_of(bundle.network, examples, impressions)
    return calibrated_report(impressions, logits, bundle.calibration, bundle.targets)


def logits_of(network: RankingNetwork, examples: Sequence[Example], impressions: Impressions) -> F32:
    """Gives the logits of the impressions, in their own order. (N, T)."""
    out = np.empty_like(impressions.labels)
    network.eval()
    with torch.inference_mode():
        for batch in batches(examples, EVALUATION_CANDIDATES):
            rows = np.concatenate([example.rows for example in batch])
            out[rows] = network(collate([example.encoded for example in batch])).logit_BT.numpy()
    return out


def calibrated_report(
    impressions: Impressions, logits: F32, calibration: Calibration, targets: Targets
) -> dict[str, dict[str, float]]:
    """Gives the metrics of each target, and log loss and calibration error as they were before the calibration."""
    names, found = targets.names, calibration.probabilities(logits, targets.names, targets.given)
    report = report_by_target(impressions.labels, found, impressions.user, names)
    for at, (name, numbers) in enumerate(report.items()):
        known = ~np.isnan(impressions.labels[:, at])
        label, before = impressions.labels[known, at], Calibration().probabilities(logits[known, at : at + 1], [name])
        numbers["logloss_uncalibrated"] = logloss(label, before[:, 0])
        numbers["ece_uncalibrated"] = calibration_error(label, before[:, 0])
    return report
