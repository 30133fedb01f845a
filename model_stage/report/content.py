"""What the page says, as numbers: `lookback-model report --json` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_stage.evaluation.metrics import Estimate, Interval, Metric
    from model_stage.evaluation.reliability import ReliabilityBin
    from model_stage.evaluation.verdict import Verdict
    from model_stage.inspection.facts import BundleFacts
    from model_stage.inspection.positions import Curves
    from model_stage.types import Versions


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """One target on the whole split."""

    metrics: Mapping[str, float]
    """As `lookback-model evaluate` gives them."""
    intervals: Mapping[Metric, Estimate]
    """Of those that have one: without rows of both classes there is none."""
    bins: Sequence[ReliabilityBin]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceNumbers:
    """One target on one slice; None = the slice has no rows of both classes, or no user of the slice has."""

    positives: int
    impressions: int
    """With a known label."""
    auc: Estimate | None
    gauc: Estimate | None
    gain: Interval | None = None
    """AUC less that of the bundle compared with, on the same rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceReport:
    """One slice."""

    kind: str
    label: str
    impressions: int
    users: int
    targets: Mapping[str, SliceNumbers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a request costs in this process, one at a time."""

    requests: int
    candidates: float
    """Of a request; mean."""
    request_ms: tuple[float, float]
    """Median and 95th percentile, search included."""
    search_ms: tuple[float, float]
    machine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReport:
    """What the page says of one bundle."""

    facts: BundleFacts
    targets: Mapping[str, TargetReport]
    slices: Sequence[SliceReport]
    curves: Sequence[Curves]
    cost: Cost
    versions: Versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the page says."""

    dataset: str
    split: str
    from_ms: int
    until_ms: int
    impressions: int
    users: int
    bundle: BundleReport
    packages: Mapping[str, str]
    against: BundleReport | None = None
    verdict: Verdict | None = None
