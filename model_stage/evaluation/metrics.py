"""AUC, GAUC, log loss, and a bootstrap over users of each and of the difference of two scorings.

Higher is better for AUC and GAUC, lower for log loss. Everything is deterministic given its
arguments, changes none of them, and costs one sort of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from store.types import I64, AnyArray

F64 = npt.NDArray[np.float64]
Metric = Literal["auc", "gauc", "logloss"]

_SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A metric with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A difference of two scorings with its bootstrap interval."""

    difference: float
    """Metric of the first scoring less that of the second."""
    low: float
    high: float


def auc(label: AnyArray, score: AnyArray) -> float:
    """Gives the probability that a positive scores above a negative, ties counted half; NaN without both classes.

    Args:
        label: 0 / 1. (N,)
        score: Higher = more likely positive, finite. (N,)

    Raises:
        ValueError: Lengths differ, a label is neither 0 nor 1, or a score is not finite.
    """
    positive, values = checked_rows(label, score)
    areas, _, _ = _group_areas(positive, values, np.zeros(len(values), dtype=np.int64))
    return float(areas[0]) if len(areas) else float("nan")


def gauc(label: AnyArray, score: AnyArray, group: AnyArray) -> float:
    """Gives the mean of the groups' AUCs weighted by their number of rows; NaN when no group has both classes.

    Only groups with a positive and a negative count. A group is a user unless said otherwise.
    Source: Zhu et al., "Optimized Cost per Click in Taobao Display Advertising", KDD 2017, section 4.1 (weights:
    impressions).

    Args:
        label: 0 / 1. (N,)
        score: Higher = more likely positive, finite. (N,)
        group: Id of each row's group, integer. (N,)

    Raises:
        ValueError: Lengths differ, a label is neither 0 nor 1, or a score is not finite.
    """
    positive, values = checked_rows(label, score)
    areas, weights, _ = _group_areas(positive, values, _dense(group, len(values)))
    return float(np.average(areas, weights=weights)) if len(areas) else float("nan")


def logloss(label: AnyArray, probability: AnyArray) -> float:
    """Gives the mean negative log-likelihood of the labels; probabilities are clipped to 1e-7 .. 1 - 1e-7.

    Raises:
        ValueError: Lengths differ, there are no rows, a label is neither 0 nor 1, or a probability is outside 0 .. 1.
    """
    positive, values = checked_rows(label, probability)
    return float(_losses(positive, values).mean())


def paired_bootstrap(
    label: AnyArray,
    score: AnyArray,
    other: AnyArray,
    user: AnyArray,
    *,
    metric: Metric,
    seed: int,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Gives metric(score) - metric(other) with a percentile interval over resampled users.

    Whole users are drawn with replacement, the same ones for both scorings: rows of one user are not independent, and
    pairing removes what the two scorings share. A user drawn twice counts twice. Cost: one pass over the rows per
    resample for `auc`, over the users for the others.

    Args:
        label: 0 / 1. (N,)
        score: A probability for `logloss`. (N,)
        other: The scoring to compare with. (N,)
        user: Id of each row's user, integer; also the group of `gauc`. (N,)
        metric: Which metric.
        seed: Of the resampling.
        num_resamples: Number of draws.
        confidence: Of the interval, within 0 .. 1.

    Raises:
        ValueError: As `auc`, or no user (for `auc`: no row) of each class to measure on.
    """
    positive, first = checked_rows(label, score)
    _, second = checked_rows(label, other)
    users = _dense(user, len(first))
    one, two = (_MEASURES[metric](positive, values, users) for values in (first, second))
    found = _resampled(lambda weight: one(weight) - two(weight), users, metric, seed, num_resamples, confidence)
    return Interval(difference=found.value, low=found.low, high=found.high)


def bootstrap(
    label: AnyArray,
    score: AnyArray,
    user: AnyArray,
    *,
    metric: Metric,
    seed: int,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Estimate:
    """Gives metric(score) with a percentile interval over resampled users; arguments as those of `paired_bootstrap`.

    Raises:
        ValueError: As `paired_bootstrap`.
    """
    positive, values = checked_rows(label, score)
    users = _dense(user, len(values))
    return _resampled(_MEASURES[metric](positive, values, users), users, metric, seed, num_resamples, confidence)


def _resampled(
    measure: Callable[[F64], float], users: I64, metric: Metric, seed: int, num_resamples: int, confidence: float
) -> Estimate:
    """Measures with each user once, and with users drawn with replacement."""
    num_users = int(users.max()) + 1 if len(users) else 0
    observed = measure(np.ones(num_users))
    if not np.isfinite(observed):
        raise ValueError(f"no {metric} without rows of both classes")
    tail = (1.0 - confidence) / 2.0
    low, high = np.nanquantile(_drawn(measure, num_users, seed, num_resamples), [tail, 1.0 - tail])
    return Estimate(value=float(observed), low=float(low), high=float(high))


def resampled(
    label: AnyArray, score: AnyArray, user: AnyArray, *, metric: Metric, seed: int, num_resamples: int
) -> F64:
    """Gives metric(score) of every resample of the users; NaN where it cannot be measured. (num_resamples,).

    With one seed, the same users are drawn for every scoring of the same rows: the intervals of `paired_bootstrap` are
    quantiles of differences of these. Arguments as there.

    Raises:
        ValueError: As `auc`.
    """
    positive, values = checked_rows(label, score)
    if len(values) == 0:
        return np.full(num_resamples, np.nan)
    users = _dense(user, len(values))
    return _drawn(_MEASURES[metric](positive, values, users), int(users.max()) + 1, seed, num_resamples)


def _drawn(measure: Callable[[F64], float], num_users: int, seed: int, num_resamples: int) -> F64:
    draw, drawn = np.random.default_rng(seed), np.empty(num_resamples)
    for number in range(num_resamples):
        weight = np.bincount(draw.integers(0, num_users, num_users), minlength=num_users).astype(np.float64)
        drawn[number] = measure(weight)
    return drawn


def _losses(positive: npt.NDArray[np.bool_], values: F64) -> F64:
    if len(values) == 0 or values.min() < 0.0 or values.max() > 1.0:
        raise ValueError("logloss: expected at least one row and probabilities within 0 .. 1")
    clipped = np.clip(values, _SMALLEST_PROBABILITY, 1.0 - _SMALLEST_PROBABILITY)
    return -np.where(positive, np.log(clipped), np.log1p(-clipped))


def checked_rows(label: AnyArray, score: AnyArray) -> tuple[npt.NDArray[np.bool_], F64]:
    """Gives labels and scores as a metric takes them.

    Raises:
        ValueError: Lengths differ, a label is neither 0 nor 1, or a score is not finite.
    """
    labels, values = np.asarray(label), np.asarray(score, dtype=np.float64)
    if labels.shape != values.shape or labels.ndim != 1:
        raise ValueError(f"labels and scores must be of one length, are {labels.shape} and {values.shape}")
    if not bool(np.isin(labels, (0, 1)).all()):
        raise ValueError("labels must be 0 or 1 (leave out the rows whose label is unknown)")
    if not bool(np.isfinite(values).all()):
        raise ValueError("scores must be finite")
    return labels.astype(np.bool_), values


def _dense(group: AnyArray, num_rows: int) -> I64:
    if np.shape(group) != (num_rows,):
        raise ValueError(f"groups must be of length {num_rows}, are {np.shape(group)}")
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def run_starts(changes: npt.NDArray[np.bool_]) -> I64:
    """Gives, per row, the first row of its run; `changes[i]` says that row i + 1 starts a new run."""
    first = np.flatnonzero(np.concatenate(([True], changes)))
    return np.repeat(first, np.diff(np.append(first, len(changes) + 1))).astype(np.int64)


def _group_areas(positive: npt.NDArray[np.bool_], values: F64, group: I64) -> tuple[F64, I64, I64]:
    """Gives AUC, number of rows and group number of every group that has both classes.

    Source: the Mann-Whitney statistic with midranks, (R - P (P + 1) / 2) / (P N).
    """
    if len(values) == 0:
        return np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.lexsort((values, group))
    values, group, positive = values[order], group[order], positive[order]
    new_group = group[1:] != group[:-1]
    tie_start = run_starts(new_group | (values[1:] != values[:-1]))
    tie_size = np.bincount(tie_start, minlength=len(values))[tie_start]
    midrank = tie_start - run_starts(new_group) + (tie_size + 1) / 2.0
    num_rows = np.bincount(group)
    num_positive = np.bincount(group, weights=positive)
    rank_sum = np.bincount(group, weights=midrank * positive)
    both = np.flatnonzero((num_positive > 0) & (num_positive < num_rows))
    up, down = num_positive[both], num_rows[both] - num_positive[both]
    return (rank_sum[both] - up * (up + 1.0) / 2.0) / (up * down), num_rows[both], both


def _user_sums(positive: npt.NDArray[np.bool_], values: F64, user: I64) -> Callable[[F64], float]:
    """Gives GAUC as a function of how often each user was drawn."""
    areas, num_rows, users = _group_areas(positive, values, user)

    def measure(weight: F64) -> float:
        drawn = weight[users] * num_rows
        total = drawn.sum()
        return float(np.dot(drawn, areas) / total) if total else float("nan")

    return measure


def _row_ranks(positive: npt.NDArray[np.bool_], values: F64, user: I64) -> Callable[[F64], float]:
    """Gives AUC as a function of how often each user was drawn."""
    order = np.argsort(values, kind="stable")
    ups, users = positive[order], user[order]
    ties = np.flatnonzero(np.concatenate(([True], np.diff(values[order]) > 0.0))) if len(values) else np.empty(0, int)

    def measure(weight: F64) -> float:
        if len(ties) == 0:
            return float("nan")
        drawn = weight[users]
        up = np.add.reduceat(drawn * ups, ties)
        down = np.add.reduceat(drawn * ~ups, ties)
        pairs = up.sum() * down.sum()
        below = np.cumsum(down) - down / 2.0
        return float(np.dot(up, below) / pairs) if pairs else float("nan")

    return measure


def _user_losses(positive: npt.NDArray[np.bool_], values: F64, user: I64) -> Callable[[F64], float]:
    """Gives log loss as a function of how often each user was drawn."""
    loss = np.bincount(user, weights=_losses(positive, values))
    num_rows = np.bincount(user).astype(np.float64)

    def measure(weight: F64) -> float:
        total = np.dot(weight, num_rows)
        return float(np.dot(weight, loss) / total) if total else float("nan")

    return measure


_MEASURES: Mapping[Metric, Callable[[npt.NDArray[np.bool_], F64, I64], Callable[[F64], float]]] = MappingProxyType(
    {"auc": _row_ranks, "gauc": _user_sums, "logloss": _user_losses}
)
