"""The ranking servicer of stage two: messages in, one call of the ranker, messages out.

| raised by the ranker | status | text on the wire |
|---|---|---|
| ConfigError, BundleError | FAILED_PRECONDITION | the message, which names the file |
| BundleMismatchError | FAILED_PRECONDITION (Explain only: Rank answers degraded) | the message, which names both |
| SearchUnavailableError | UNAVAILABLE (Explain only: Rank answers degraded) | the message |
| RankingUnavailableError | UNAVAILABLE | the message |
| ParameterGroupError, ModelError | INTERNAL | the request id |

What the store and the edge raise, and whatever is listed nowhere, is in the table of `serving.server.status`.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, get_args

import numpy as np
from grpc import StatusCode
from prometheus_client import Counter

from model_stage import errors
from model_stage.bundle import load_bundle
from model_stage.errors import Degraded
from model_stage.ranking.ranker import Ranker
from model_stage.serving import convert
from model_stage.serving.drift import Drift
from model_stage.serving.history_lengths import HistoryLengths
from model_stage.serving.served_log.record import Served
from model_stage.serving.warm_up import warm_up
from protos.lookback.ranking.v1 import ranking_pb2 as pb
from protos.lookback.ranking.v1 import ranking_pb2_grpc
from serving import (
    LARGEST_MESSAGE_BYTES,
    Role,
    Row,
    StatusTable,
    current_call,
    for_role,
    lap,
    request_units,
    takes_up_to,
)
from serving.deadline import Deadline
from serving.server.pool import afterwards
from store.publishing.generation import current_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import grpc
    from prometheus_client import CollectorRegistry
    from structlog.typing import FilteringBoundLogger

    from model_stage.bundle import Bundle
    from model_stage.serving.options import RankingOptions
    from model_stage.types import RankRequest, RankResult, Retriever
    from serving import Call
    from store.retrieval import SearchResult

STATUS_TABLE = StatusTable(
    Row(errors.ModelError, StatusCode.INTERNAL, tell=False),
    Row(errors.ConfigError, StatusCode.FAILED_PRECONDITION),
    Row(errors.ParameterGroupError, StatusCode.INTERNAL, tell=False),
    Row(errors.BundleError, StatusCode.FAILED_PRECONDITION),
    Row(errors.BundleMismatchError, StatusCode.FAILED_PRECONDITION),
    Row(errors.SearchUnavailableError, StatusCode.UNAVAILABLE),
    Row(errors.RankingUnavailableError, StatusCode.UNAVAILABLE),
)

CHECK_S = 1.0
"""What search gets to say how it is configured, when a bundle is opened."""


class TakesServed(Protocol):
    """Works on some of what was served, beside the answers."""

    def takes(self, request_id: str) -> bool:
        """Says whether a request is to be offered."""
        ...

    def offer(self, served: Served) -> None:
        """Leaves a request and its answer to be worked on; never waits."""
        ...


class CurrentRanker:
    """The ranker over the bundle that is published, and the switch to the next one. Thread-safe.

    A request takes `ranker` once and keeps it: a reload never changes the bundle under it. No request gets a ranker
    that is not warm.

    Args:
        bundle_root: Root that `lookback-model train` published to.
        retriever: The client of the search stage.
        name: Bundle to begin with; None = the current one.
        recorded: Real requests, with what was retrieved for them, that a bundle scores before it serves.
    """

    def __init__(
        self,
        bundle_root: Path,
        retriever: Retriever,
        name: str | None = None,
        recorded: Sequence[tuple[RankRequest, SearchResult]] = (),
    ) -> None:
        self._root = bundle_root
        self._retriever = retriever
        self._recorded = recorded
        self._reloading = threading.Lock()
        self.ranker = self._open(name)

    def reload(self) -> None:
        """Opens what is published now; on an error the old ranker stays."""
        with self._reloading:
            self.ranker = self._open()

    def published(self) -> dict[str, str]:
        """Gives the name of the bundle that `CURRENT` points at.

        Raises:
            store.errors.GenerationError: Nothing is published, or `CURRENT` cannot be read.
        """
        return {"bundle": current_name(self._root, "model")}

    def served(self) -> dict[str, str]:
        """Gives the name of the bundle in use."""
        return {"bundle": self.ranker.bundle.name}

    def _open(self, name: str | None = None) -> Ranker:
        bundle = load_bundle(self._root, name)
        warm_up(bundle, self._recorded)
        ranker = Ranker(bundle, self._retriever)
        with suppress(errors.BundleMismatchError):  # every answer will be degraded, and say so
            ranker.check_retriever(Deadline.after(CHECK_S))
        return ranker


class RankingMetrics:
    """What stage two counts beyond requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.degraded = Counter(
            "lookback_degraded", "Rank answers made without history, by reason.", ("reason",), registry=registry
        )
        for kind in get_args(Degraded):
            self.degraded.labels(kind)
        self.candidates = Counter("lookback_candidates", "Candidates scored.", registry=registry)
        self.empty_histories = Counter(
            "lookback_empty_histories", "Rank answers for users with no behavior before the time.", registry=registry
        )
        self.nothing_retrieved = Counter(
            "lookback_candidates_nothing_retrieved", "Candidates scored with no behavior.", registry=registry
        )

        self.missing_inputs = Counter(
            "lookback_missing_inputs",
            "Rank answers to requests that lack a field or a statistic which the bundle learned from.",
            registry=registry,
        )
        self.ancestors_unknown = Counter(
            "lookback_ancestors_unknown",
            "Rank answers for which search did not say what is above categories that the bundle lacks.",
            registry=registry,
        )

        self._drift = Drift(registry)

    def count(self, bundle: Bundle, result: RankResult) -> None:
        """Counts one answer that a bundle gave."""
        self.candidates.inc(len(result.num_retrieved))
        self.ancestors_unknown.inc(bool(result.ancestors_reason))
        self.missing_inputs.inc(bool(result.missing))
        if result.degraded:
            self.degraded.labels(result.degraded_kind).inc()
            return
        self.empty_histories.inc(result.num_behaviors == 0)
        self.nothing_retrieved.inc(int(np.count_nonzero(result.num_retrieved == 0)))
        self._drift.observe(bundle, result)


class RankingServicer(ranking_pb2_grpc.RankingServiceServicer):
    """Answers `lookback.ranking.v1.RankingService`."""

    def __init__(
        self,
        current: CurrentRanker,
        metrics: RankingMetrics,
        log: FilteringBoundLogger,
        options: RankingOptions,
        asides: Sequence[TakesServed] = (),
    ) -> None:
        """Answers with what is current.

        Args:
            current: What ranks.
            metrics: What to count in.
            log: Gets a line for every answer that lacks something.
            options: Which experiments there are.
            asides: What gets requests and their answers, once these are on their way.
        """
        self._current = current
        self._metrics = metrics
        self._log = log
        self._options = options
        self._asides = asides
        self._lengths = HistoryLengths()

    def rank_units(self, request: pb.RankRequest) -> float:
        """Gives what ranking will cost, by the length of history that search said last."""
        return request_units(len(request.candidates.item.data) // 8, self._lengths.of(request.user))

    def explain_units(self, request: pb.ExplainRequest) -> float:
        """Gives what an explanation will cost."""
        return self.rank_units(request.request)

    @for_role(Role.RANK)
    @takes_up_to(LARGEST_MESSAGE_BYTES)
    def Rank(self, request: pb.RankRequest, context: grpc.ServicerContext) -> pb.RankResponse:  # noqa: N802
        """Scores the candidates; degraded, flagged and counted, when search does not answer."""
        call = current_call()
        ranker = self._current.ranker
        asked = self._read(request, call)
        answer = ranker.answer(asked, call.deadline, call.request_id)
        call.check_time()
        result = answer.result
        call.units = request_units(len(result.num_retrieved), result.num_behaviors)
        if not result.degraded:
            self._lengths.keep(request.user, result.num_behaviors)
        self._metrics.count(ranker.bundle, result)
        if result.degraded:
            self._log.warning("degraded", request_id=call.request_id, reason=result.degraded_reason)
        if result.ancestors_reason:
            self._log.warning("ancestors unknown", request_id=call.request_id, reason=result.ancestors_reason)
        for aside in self._asides:
            if aside.takes(call.request_id):
                served = Served(
                    request_id=call.request_id,
                    served_ms=time.time_ns() // 1_000_000,
                    request=asked,
                    answer=answer,
                    bundle=ranker.bundle,
                )
                afterwards(partial(aside.offer, served))
        return convert.result_to_proto(result)

    @for_role(Role.READ_HISTORY)
    @takes_up_to(LARGEST_MESSAGE_BYTES)
    def Explain(self, request: pb.ExplainRequest, context: grpc.ServicerContext) -> pb.ExplainResponse:  # noqa: N802
        """Says which behaviors stand behind one candidate's scores."""
        call = current_call()
        ranker = self._current.ranker
        asked = self._read(request.request, call)
        result = ranker.explain(asked, request.candidate, call.deadline, call.request_id)
        call.check_time()
        call.units = self.explain_units(request)
        return convert.explanation_to_proto(result)

    def _read(self, message: pb.RankRequest, call: Call) -> RankRequest:
        request = convert.request_from_proto(message)
        self._options.check_experiment(request.experiment)
        call.experiment = request.experiment
        lap("decode")
        return request
