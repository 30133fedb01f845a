"""Whether a bundle should replace another: the rule, in one place, as code and as words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from model_stage.evaluation.metrics import auc, gauc, logloss, paired_bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.evaluation.metrics import Metric
    from store.types import F32, U64, AnyArray

Outcome = Literal["ship", "do not ship", "not enough data"]

METRICS: tuple[Metric, ...] = ("auc", "gauc", "logloss")
TOLERANCE = 0.005
RESAMPLES = 1000
CONFIDENCE = 0.95
"""Of all intervals of a verdict together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What a bundle gains over another in one metric of one target, on the same impressions."""

    target: str
    metric: Metric
    ours: float
    theirs: float
    gain: float
    """Higher is better: AUC and GAUC less the other's, log loss by how large a share of the other's it is smaller."""
    low: float
    high: float
    """Of the interval, at the confidence that makes all intervals of the verdict hold together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows from the gains."""

    outcome: Outcome
    reasons: tuple[str, ...]
    """Which gains decided it, in words; at least one."""
    gains: tuple[Gain, ...]
    tolerance: float
    resamples: int


def rule(tolerance: float = TOLERANCE, resamples: int = RESAMPLES) -> tuple[str, ...]:
    """Gives the rule as sentences for people."""
    return (
        "Both bundles score the same impressions. For each target they are compared by AUC, GAUC (by user) and log "
        "loss of the calibrated probabilities; a gain in log loss is the share of the other's by which it is smaller.",
        f"Each gain has an interval by a paired bootstrap: whole users are drawn with replacement {resamples:,} times, "
        f"the same ones for both bundles. All intervals hold together at {CONFIDENCE:.0%} (Bonferroni).",
        "Do not ship: at least one interval lies wholly below 0, so something is certainly lost.",
        f"Ship: none does, at least one lies wholly above 0, and none reaches below -{tolerance:g}, so that no loss "
        "beyond this tolerance is possible.",
        "Not enough data: anything else.",
    )


def compare(
    labels: F32,
    ours: AnyArray,
    theirs: AnyArray,
    user: U64,
    targets: Sequence[str],
    *,
    tolerance: float = TOLERANCE,
    resamples: int = RESAMPLES,
) -> Verdict:
    """Compares two bundles and judges.

    Args:
        labels: 1 / 0 / NaN = unknown. (N, T)
        ours: Probabilities of the bundle that would be shipped. (N, T)
        theirs: Those of the one that it would replace. (N, T)
        user: (N,)
        targets: The T names. A target without rows of both classes says nothing and is left out.
        tolerance: The largest loss that may remain possible.
        resamples: Draws of the bootstrap.

    Cost: resamples x targets x (one pass over the rows, and two over the users).
    """
    judged = [at for at in range(len(targets)) if {0.0, 1.0} <= set(labels[:, at][~np.isnan(labels[:, at])].tolist())]
    metrics: list[tuple[int, Metric]] = [(at, metric) for at in judged for metric in METRICS]
    gains = []
    for at, metric in metrics:
        known = ~np.isnan(labels[:, at])
        label, of_user, confidence = labels[known, at], user[known], 1.0 - (1.0 - CONFIDENCE) / len(metrics)
        gain = _gain(targets[at], metric, label, ours[known, at], theirs[known, at], of_user, confidence, resamples)
        gains += [gain] if gain is not None else []
    outcome, reasons = judge(gains, tolerance)
    return Verdict(outcome=outcome, reasons=reasons, gains=tuple(gains), tolerance=tolerance, resamples=resamples)


def judge(gains: Sequence[Gain], tolerance: float) -> tuple[Outcome, tuple[str, ...]]:
    """Applies the rule to gains; gives what follows, and why."""
    worse = [gain for gain in gains if gain.high < 0.0]
    if worse:
        return "do not ship", tuple(f"{_named(gain)} is worse" for gain in worse)
    better, unsafe = [gain for gain in gains if gain.low > 0.0], [gain for gain in gains if gain.low < -tolerance]
    if better and not unsafe:
        return "ship", tuple(f"{_named(gain)} is better" for gain in better)
    reasons = [f"{_named(gain)} may be worse by more than {tolerance:g}" for gain in unsafe]
    return "not enough data", (*reasons, *([] if better else ["nothing is certainly better"]))


def _named(gain: Gain) -> str:
    return f"{gain.metric} of {gain.target} ({gain.gain:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}])"


def _gain(
    target: str,
    metric: Metric,
    label: F32,
    ours: AnyArray,
    theirs: AnyArray,
    user: U64,
    confidence: float,
    resamples: int,
) -> Gain | None:
    """Gives the gain in one metric, of rows with a known label; None where no user has rows of both classes."""
    measured = [_measure(metric, label, score, user) for score in (ours, theirs)]
    if not np.isfinite(measured).all():
        return None
    found = paired_bootstrap(
        label, ours, theirs, user, metric=metric, seed=0, num_resamples=resamples, confidence=confidence
    )
    ends = found.difference, found.low, found.high
    if metric == "logloss":
        gain, high, low = (-end / measured[1] for end in ends)
    else:
        gain, low, high = ends
    return Gain(target=target, metric=metric, ours=measured[0], theirs=measured[1], gain=gain, low=low, high=high)


def _measure(metric: Metric, label: F32, score: AnyArray, user: U64) -> float:
    match metric:
        case "auc":
            return auc(label, score)
        case "gauc":
            return gauc(label, score, user)
        case "logloss":
            return logloss(label, score)
