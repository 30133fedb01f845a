"""Prometheus metrics of one server object, in a registry of its own. Their names: docs/operations/metrics.md."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client.core import Metric

    from store.types import I64, AnyArray

LATENCY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STAGE_BUCKETS_S = (0.00005, 0.0001, 0.0002, 0.0005, *LATENCY_BUCKETS_S[:-2])


class ServerMetrics:
    """What every server counts; a stage adds its own metrics to `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "lookback_requests",
            "Requests answered, by method, gRPC status and experiment.",
            ("method", "code", "experiment"),
            registry=self.registry,
        )
        self.latency_s = Histogram(
            "lookback_request_duration_seconds",
            "Time from the handler's start to its end, waiting for a turn included.",
            ("method",),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.queue_wait_s = Histogram(
            "lookback_queue_wait_seconds",
            "Time that a request waited for its turn.",
            ("method",),
            buckets=STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self._stages: dict[tuple[str, str], Histogram] = {}
        self._stage_s = Histogram(
            "lookback_stage_duration_seconds",
            "Time that one stage of a request took.",
            ("method", "stage"),
            buckets=STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self.slow = Counter(
            "lookback_slow_requests",
            "Requests that took longer than --slow-ms; the log has the stages of each.",
            ("method",),
            registry=self.registry,
        )
        self.refused = Counter(
            "lookback_requests_refused",
            "Requests refused before any work, by why.",
            ("method", "reason"),
            registry=self.registry,
        )
        self.in_flight = Gauge("lookback_requests_in_flight", "Requests inside now.", registry=self.registry)
        self.waiting = Gauge(
            "lookback_requests_waiting", "Requests that wait for their turn now.", registry=self.registry
        )

    def observe_stages(self, method: str, seconds: Mapping[str, float]) -> None:
        """Takes in how long each stage of a request took."""
        for stage, each_s in seconds.items():
            of_stage = self._stages.get((method, stage))  # to ask the library takes three times as long as to observe
            if of_stage is None:
                of_stage = self._stages.setdefault((method, stage), self._stage_s.labels(method, stage))
            of_stage.observe(each_s)


class BulkHistogram(Collector):
    """A histogram that takes many values at a time: one by one they would cost as much as the work they tell of."""

    def __init__(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
        label: str | None = None,
    ) -> None:
        """Registers an empty one.

        Args:
            name: Of the metric.
            documentation: For its page.
            bounds: Upper bounds of the buckets, inclusive, ascending; one without a bound is added.
            registry: Where it is shown.
            label: Name of its label; None = it has none.
        """
        self._family = name, documentation
        self._label = label
        self._bounds = np.array(bounds, np.float64)
        self._names = [*map(str, self._bounds.tolist()), "+Inf"]
        self._counts: dict[str, I64] = {} if label is not None else {"": np.zeros(len(self._names), np.int64)}
        self._sums: dict[str, float] = dict.fromkeys(self._counts, 0.0)
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, values: AnyArray, value: str = "") -> None:
        """Counts finite values of any number and shape, under a value of the label."""
        at = np.searchsorted(self._bounds, values.ravel())
        counts, total = np.bincount(at, minlength=len(self._names)), float(values.sum(dtype=np.float64))
        with self._lock:
            self._counts[value] = self._counts.get(value, 0) + counts
            self._sums[value] = self._sums.get(value, 0.0) + total

    def collect(self) -> Iterable[Metric]:
        """Gives the counts so far."""
        family = HistogramMetricFamily(*self._family, labels=None if self._label is None else [self._label])
        with self._lock:
            for value, counts in self._counts.items():
                buckets = list(zip(self._names, np.cumsum(counts).tolist(), strict=True))
                family.add_metric([] if self._label is None else [value], buckets, sum_value=self._sums[value])
        yield family
