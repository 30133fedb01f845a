"""The numbers of one scoring, per target: what training, `lookback-model evaluate` and the demo print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_stage.evaluation.metrics import auc, gauc, logloss
from model_stage.evaluation.reliability import calibration_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from store.types import F32, U64, AnyArray


def report_by_target(
    labels: F32, probability: AnyArray, user: U64, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Gives AUC, GAUC (by user), log loss, calibration error and counts of each target, of rows with a known label.

    Args:
        labels: 1 / 0 / NaN = unknown. (N, T)
        probability: 0 to 1. (N, T)
        user: (N,)
        names: The T target names.
    """
    report = {}
    for at, name in enumerate(names):
        known = ~np.isnan(labels[:, at])
        label, score = labels[known, at], probability[known, at]
        report[name] = {
            "auc": auc(label, score),
            "gauc": gauc(label, score, user[known]),
            "logloss": or_nan(logloss, label, score),
            "ece": or_nan(calibration_error, label, score),
            "mean_probability": float(score.mean()) if len(score) else float("nan"),
            "positives": float(label.sum()),
            "impressions": float(len(label)),
        }
    return report


def or_nan(metric: Callable[[AnyArray, AnyArray], float], label: AnyArray, score: AnyArray) -> float:
    """Gives a metric, NaN where there is no row to measure on."""
    return metric(label, score) if len(label) else float("nan")
