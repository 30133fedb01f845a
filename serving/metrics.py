"""Prometheus metrics of one server object, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class ServerMetrics:
    """What every server counts; a stage adds its own metrics to `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lookback_requests",
            "Requests answered, by method, gRPC status and experiment.",
            ("method", "code", "experiment"),
            registry=self.registry,
        )
        self.latency_s = Histogram(
            "lookback_request_seconds",
            "Time from the handler's start to its end, waiting for a turn included.",
            ("method",),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge("lookback_requests_in_flight", "Requests inside now.", registry=self.registry)
