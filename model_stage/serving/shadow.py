"""A second bundle that scores a share of requests once they are answered, and how far it agrees with what serves."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import Counter, Gauge
from scipy.stats import rankdata

from model_stage.bundle import load_bundle
from model_stage.ranking.compatibility import check_compatible
from model_stage.ranking.ranker import Ranker
from model_stage.serving.aside import Aside, Sampler
from model_stage.serving.warm_up import warm_up
from serving.deadline import Deadline
from store.publishing.generation import current_name

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from structlog.typing import FilteringBoundLogger

    from model_stage.serving.served_log.record import Served
    from model_stage.types import RankResult, Retriever
    from store.types import F32

SEED = 2
"""Of the sample; another one than that of the served log."""
MOST_WAITING = 64
MOST_BYTES = 64 << 20
SEARCH_S = 1.0
"""What the shadow's own search may take."""
LOOK_S = 5.0
"""From one look for a newer shadow bundle to the next."""
WINDOW = 1000
"""Requests that agreement is measured over: the newest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How two bundles agree on one target of one request, or the mean over some requests."""

    rank_correlation: float
    """Spearman's, over the candidates of a request; NaN where one of the two gives all of them the same."""
    served: float
    """Mean probability that was answered."""
    shadow: float
    """Mean probability of the shadow."""

    @staticmethod
    def of(served: F32, shadow: F32) -> Agreement:
        """Compares the probabilities of the candidates of a request. Both (C,)."""
        return Agreement(
            rank_correlation=rank_correlation(served, shadow),
            served=float(served.mean(dtype=np.float64)),
            shadow=float(shadow.mean(dtype=np.float64)),
        )


def rank_correlation(left: F32, right: F32) -> float:
    """Gives Spearman's rank correlation, equal values at their mean rank; NaN where a side has one value only. (C,)."""
    ranks = np.stack([rankdata(left), rankdata(right)])
    if bool((np.ptp(ranks, axis=1) == 0).any()):
        return float("nan")
    left_ranks, right_ranks = ranks - ranks.mean(axis=1, keepdims=True)
    return float(left_ranks @ right_ranks / np.sqrt((left_ranks @ left_ranks) * (right_ranks @ right_ranks)))


class Shadow:
    """Scores served requests again with another bundle, in a thread of its own. Thread-safe.

    Args:
        root: Root of the shadow's bundles; what is current there is followed.
        share: Share of requests, 0 to 1, chosen by their ids.
        retriever: The search stage that serves.
        own_retriever: A search stage of the shadow's own, asked again for each request; None = what was retrieved for
            the answer is scored, which works where both bundles fit the same index.
        registry: Where to count.
        log: Gets a line for every change and failure of the shadow.

    Raises:
        GenerationError, BundleError, ConfigError: The bundle cannot be opened.
    """

    def __init__(
        self,
        root: Path,
        share: float,
        retriever: Retriever,
        own_retriever: Retriever | None,
        registry: CollectorRegistry,
        log: FilteringBoundLogger,
    ) -> None:
        self._root = root
        self._log = log
        self._retriever = retriever
        self._own_retriever = own_retriever
        self._sampler = Sampler(share, SEED)
        self._requests = Counter(
            "lookback_shadow_requests",
            "Requests for the shadow, by what became of them.",
            ["result"],
            registry=registry,
        )
        for result in ("scored", "dropped", "failed"):
            self._requests.labels(result)
        self._metrics = _AgreementMetrics(registry)
        self._problem = ""
        self._refused = ""
        self._looked_s = time.monotonic()
        self._ranker = self._open(current_name(root, "model"))
        self._aside = Aside("shadow", self._work, most=MOST_WAITING, most_bytes=MOST_BYTES)

    def takes(self, request_id: str) -> bool:
        """Says whether a request is to be offered."""
        return self._sampler.takes(request_id)

    def offer(self, served: Served) -> None:
        """Leaves a request to be scored; counts it as dropped where too much waits. Never waits."""
        if not self._aside.offer(served, served.num_bytes):
            self._requests.labels("dropped").inc()

    def close(self) -> None:
        """Ends; what waits is dropped."""
        self._aside.close()

    def _open(self, name: str) -> Ranker:
        bundle = load_bundle(self._root, name)
        warm_up(bundle)
        return Ranker(bundle, self._own_retriever or self._retriever)

    def _work(self, waiting: list[Served], ended: bool) -> None:
        if ended:
            self._requests.labels("dropped").inc(len(waiting))
            return
        self._follow()
        for served in waiting:
            try:
                self._metrics.add(served.answer.result, self._score(served))
            except Exception as error:  # what serves must not suffer from what a shadow fails with
                self._requests.labels("failed").inc()
                if str(error) != self._problem:  # one line for each thing that is wrong, not one for each request
                    self._log.error("shadow failed", request_id=served.request_id, reason=str(error))
                self._problem = str(error)
            else:
                self._requests.labels("scored").inc()
        self._metrics.show()

    def _score(self, served: Served) -> RankResult:
        request, found = replace(served.request, targets=()), served.answer.found
        if self._own_retriever is not None:
            found = self._ranker.retrieve(request, Deadline.after(SEARCH_S), served.request_id)
        elif not served.answer.result.degraded:
            check_compatible(self._ranker.bundle, found)
        reason = "" if self._own_retriever is not None else served.answer.result.degraded_reason
        return self._ranker.score(request, found, reason)

    def _follow(self) -> None:
        """Changes to what is published; what cannot be opened is said once, and the old one goes on."""
        if time.monotonic() < self._looked_s + LOOK_S:
            return
        self._looked_s = time.monotonic()
        try:
            name = current_name(self._root, "model")
            if name in (self._ranker.bundle.name, self._refused):
                return
            self._refused = name
            self._ranker = self._open(name)
            self._metrics.clear()
            self._log.info("shadow swapped", shadow=name)
        except Exception as error:
            self._log.error("shadow refused", reason=str(error))


class _AgreementMetrics:
    """Agreement over the newest `WINDOW` requests, by target."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seen: dict[str, deque[Agreement]] = {}
        self._gauges = [
            Gauge(name, what, ["target"], registry=registry)
            for name, what in (
                ("lookback_shadow_rank_correlation", "Mean rank correlation of shadow and answer within a request."),
                ("lookback_shadow_mean_difference", "Mean probability of the shadow less that of the answers."),
                ("lookback_shadow_calibration_ratio", "Mean probability of the shadow over that of the answers."),
            )
        ]

    def clear(self) -> None:
        """Forgets what an earlier shadow has scored."""
        self._seen = {}
        for gauge in self._gauges:
            gauge.clear()

    def add(self, served: RankResult, shadow: RankResult) -> None:
        """Adds a request, for the targets that both have scored."""
        for column, target in enumerate(served.targets):
            if target in shadow.targets:
                other = shadow.probability[:, shadow.targets.index(target)]
                seen = self._seen.setdefault(target, deque(maxlen=WINDOW))
                seen.append(Agreement.of(served.probability[:, column], other))

    def show(self) -> None:
        """Sets the gauges."""
        for target, seen in self._seen.items():
            correlations = np.array([each.rank_correlation for each in seen])
            served, shadow = (float(np.mean([getattr(each, name) for each in seen])) for name in ("served", "shadow"))
            known = correlations[~np.isnan(correlations)]
            values = (
                float(known.mean()) if len(known) else float("nan"),
                shadow - served,
                shadow / served if served else float("nan"),
            )
            for gauge, value in zip(self._gauges, values, strict=True):
                gauge.labels(target).set(value)
