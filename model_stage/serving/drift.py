"""How far the probabilities that are answered have moved from those of the bundle's reference window."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from model_stage.reference import read_reference
from serving import BulkHistogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from model_stage.bundle import Bundle
    from model_stage.reference import TargetReference
    from model_stage.types import RankResult
    from store.types import F64

HALF_LIFE_S = 600.0
"""What was answered that long ago counts half."""
LEAST_SCORES = 1_000.0
"""So many have to count before anything is said: fewer differ by chance."""
SCORE_BUCKETS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)


@dataclass(slots=True, kw_only=True)
class _Recent:
    """What was answered of one target lately; old answers fade."""

    reference: TargetReference
    counts: F64
    total: float = 0.0
    """Sum of the probabilities."""
    seen_s: float = 0.0

    def fade(self, now_s: float) -> None:
        left = 0.5 ** (max(0.0, now_s - self.seen_s) / HALF_LIFE_S)
        self.counts *= left
        self.total *= left
        self.seen_s = now_s


class Drift(Collector):
    """Compares answers with the reference of the bundle that gave them; starts anew with every bundle. Thread-safe.

    There are no labels here. What can be seen is whether scores are distributed as they were, and whether their mean is
    still the rate of positives that the bundle was calibrated to: either moves when traffic does, or an input breaks.
    """

    def __init__(self, registry: CollectorRegistry, now_s: Callable[[], float] = time.monotonic) -> None:
        """Shows nothing yet.

        Args:
            registry: Where to show it.
            now_s: A clock.
        """
        self._scores = BulkHistogram("lookback_score", "Probabilities answered.", SCORE_BUCKETS, registry, "target")
        self._now_s = now_s
        self._lock = threading.Lock()
        self._bundle = ""
        self._recent: dict[str, _Recent] = {}
        registry.register(self)

    def observe(self, bundle: Bundle, result: RankResult) -> None:
        """Takes in an answer that was made with history."""
        with self._lock:
            if bundle.name != self._bundle:
                self._bundle = bundle.name
                self._recent = {
                    name: _Recent(reference=reference, counts=np.zeros(len(reference.share)), seen_s=self._now_s())
                    for name, reference in read_reference(bundle.metrics).items()
                }
            for at, name in enumerate(result.targets):
                probability = result.probability[:, at]
                self._scores.observe(probability, name)
                recent = self._recent.get(name)
                if recent is not None:
                    recent.fade(self._now_s())
                    recent.counts += recent.reference.bins(probability)
                    recent.total += float(probability.sum(dtype=np.float64))

    def collect(self) -> Iterable[Metric]:
        """Gives both measures of every target of which enough was answered lately."""
        drift = GaugeMetricFamily(
            "lookback_score_drift",
            "Population stability index of recent scores against the bundle's reference window.",
            labels=["target"],
        )
        ratio = GaugeMetricFamily(
            "lookback_calibration_drift_ratio",
            "Mean of recent probabilities over the rate of positives of the reference window.",
            labels=["target"],
        )
        with self._lock:
            for name, recent in self._recent.items():
                recent.fade(self._now_s())
                num_scores = float(recent.counts.sum())
                if num_scores < LEAST_SCORES:
                    continue
                drift.add_metric([name], recent.reference.stability_index(recent.counts))
                if recent.reference.positive_rate > 0.0:
                    ratio.add_metric([name], recent.total / num_scores / recent.reference.positive_rate)
        yield drift
        yield ratio
