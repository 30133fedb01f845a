"""Fits the calibration of each target on requests later than those the network learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from model_stage.calibration import Calibration, Isotonic, Platt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.types import F32, AnyArray

CalibrationMethod = Literal["none", "platt", "isotonic"]
MIN_PER_CLASS = 10
"""Positives, and negatives, below which a target keeps the identity: a fit would be of chance."""


def fit_calibration(labels: F32, logits: F32, names: Sequence[str], method: CalibrationMethod) -> Calibration:
    """Fits every target that has rows enough of both classes; the others keep the identity.

    Args:
        labels: 1 / 0 / NaN = unknown. (N, T)
        logits: What the network says. (N, T)
        names: The T targets.
        method: `none` fits nothing.
    """
    by_target: dict[str, Platt | Isotonic] = {}
    for at, name in enumerate(names):
        known = ~np.isnan(labels[:, at])
        label, logit = labels[known, at], logits[known, at].astype(np.float64)
        if method == "none" or min(label.sum(), len(label) - label.sum()) < MIN_PER_CLASS:
            continue
        fitted = fit_platt(label, logit) if method == "platt" else fit_isotonic(label, logit)
        if fitted is not None:
            by_target[name] = fitted
    return Calibration(by_target=by_target)


def fit_platt(label: AnyArray, logit: AnyArray) -> Platt | None:
    """Fits slope and intercept by logistic regression; None where the best slope would not rise.

    The labels are softened to (P + 1) / (P + 2) and 1 / (N + 2), each row given once with either class and the weight
    of it, so that a slope exists for separable rows too. Source: Platt 1999, section 2.2.
    """
    positives = float(label.sum())
    negatives = len(label) - positives
    scale = float(logit.std())
    if scale < 1e-9:
        return None
    soft = np.where(label > 0, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))
    mean = float(logit.mean())
    rows = np.tile((logit - mean) / scale, 2)[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(rows, np.repeat([1, 0], len(label)), sample_weight=np.concatenate((soft, 1.0 - soft)))
    slope, intercept = np.asarray(model.coef_).item() / scale, np.asarray(model.intercept_).item()
    return Platt(slope=slope, intercept=intercept - slope * mean) if slope > 0.0 else None


def fit_isotonic(label: AnyArray, logit: AnyArray) -> Isotonic:
    """Fits a curve that never falls; it keeps one row in N + 2 away from 0 and 1, and so is never certain."""
    smallest = 1.0 / (len(label) + 2.0)
    model = IsotonicRegression(y_min=smallest, y_max=1.0 - smallest, out_of_bounds="clip")
    model.fit(logit, label.astype(np.float64))
    return Isotonic(logit=tuple(model.X_thresholds_.tolist()), probability_at=tuple(model.y_thresholds_.tolist()))
