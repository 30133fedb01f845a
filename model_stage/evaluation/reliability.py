"""Whether probabilities are the frequencies they say: the bins of a reliability diagram, and their mean gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_stage.evaluation.metrics import checked_rows, run_starts

if TYPE_CHECKING:
    from store.types import AnyArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Rows of about equal probability."""

    mean_probability: float
    positives: int
    rows: int


def calibration_error(label: AnyArray, probability: AnyArray, num_bins: int = 15) -> float:
    """Gives the expected calibration error: the mean gap between probability and frequency over bins, by rows.

    Bins hold about equally many rows, in the order of their probability, and rows of equal probability share one: with
    bins of equal width nearly all rows of a rare target would lie in the first.
    Source: Guo et al., ICML 2017, equation 5; equal rows per bin: Nixon et al., CVPR workshops 2019.

    Raises:
        ValueError: As `logloss`.
    """
    bins = reliability(label, probability, num_bins)
    rows = np.array([each.rows for each in bins])
    gap = np.array([each.mean_probability - each.positives / each.rows for each in bins])
    return float(np.abs(rows * gap).sum() / rows.sum())


def reliability(label: AnyArray, probability: AnyArray, num_bins: int = 15) -> list[ReliabilityBin]:
    """Gives the bins of `calibration_error`, ascending by probability; fewer where many rows are equal.

    Raises:
        ValueError: As `logloss`.
    """
    positive, values = checked_rows(label, probability)
    if len(values) == 0 or values.min() < 0.0 or values.max() > 1.0:
        raise ValueError("reliability: expected at least one row and probabilities within 0 .. 1")
    order = np.argsort(values, kind="stable")
    values, positive = values[order], positive[order]
    bins = run_starts(values[1:] != values[:-1]) * num_bins // len(values)
    rows, total, ups = (np.bincount(bins, weights=each) for each in (np.ones(len(values)), values, positive))
    return [
        ReliabilityBin(mean_probability=float(total[at] / rows[at]), positives=int(ups[at]), rows=int(rows[at]))
        for at in np.flatnonzero(rows)
    ]
