"""The ranker: one request through retrieval, encoding and the network; in process, or behind the ranking service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_stage.bundle import load_bundle
from model_stage.encoding.ancestors import AncestorEncoder
from model_stage.encoding.batch import collate
from model_stage.errors import BundleMismatchError, SearchUnavailableError
from model_stage.ranking.ablation import no_history, parts_of, without
from model_stage.ranking.compatibility import check_compatible, check_retriever, schema_mismatch_error
from model_stage.ranking.explanation import explained_behaviors
from model_stage.ranking.trained_with import TrainedWith
from model_stage.ranking.validate import check_request, columns_of
from model_stage.types import Answer, Contribution, ExplainResult, RankResult, Versions
from serving.call import lap
from store.errors import DeadlineExceededError, FieldError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from model_stage.bundle import Bundle
    from model_stage.encoding.batch import EncodedRequest
    from model_stage.encoding.encoder import RequestEncoder
    from model_stage.networks import NetworkOutput
    from model_stage.types import RankRequest, Retriever
    from serving.deadline import Deadline
    from store.retrieval import SearchResult
    from store.types import F32

RESERVE_S = 0.02
RESERVE_PER_CANDIDATE_S = 0.0001
"""Time kept back from the search call's deadline for the network itself."""
RESERVE_SHARE = 0.05
LARGEST_SHARE_S = 0.1
"""Besides, `RESERVE_SHARE` of the caller's remaining time, at most this: timers are late after a long wait."""


class Ranker:
    """Scores candidates with one bundle over one retriever. Thread-safe.

    Args:
        bundle: The model.
        retriever: The in-process searcher, or the gRPC client of the search stage.
        max_clock_skew_s: How far ahead of this machine's clock a request's as-of time may be.
        now_s: The clock, seconds since the epoch.
    """

    def __init__(
        self,
        bundle: Bundle,
        retriever: Retriever,
        *,
        max_clock_skew_s: float = 60.0,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.bundle = bundle
        self.retriever = retriever
        self._encoder = AncestorEncoder(bundle.encoder, retriever)
        self._trained_with = TrainedWith(bundle)
        self._max_clock_skew_s = max_clock_skew_s
        self._now_s = now_s

    @staticmethod
    def load(root: Path, retriever: Retriever) -> Ranker:
        """Gives a ranker over the published bundle; asks the retriever at once whether the two go together.

        Args:
            root: Root of model bundles.
            retriever: As of `Ranker`.

        Raises:
            BundleMismatchError: The index or the store behind the retriever is not what the bundle was made for. Where
                the retriever does not answer yet, that is found with the first request, whose answer is degraded.
            store.errors.GenerationError, BundleError, ConfigError: As `model_stage.bundle.load_bundle`.
        """
        (ranker := Ranker(load_bundle(root), retriever)).check_retriever()
        return ranker

    def check_retriever(self, deadline: Deadline | None = None) -> tuple[str, ...]:
        """Checks the retriever as `load` does; gives, and logs, in what search differs from that of the training."""
        found = check_retriever(self.bundle, self.retriever, deadline)
        return () if found is None else self._trained_with.differences(found)

    def rank(self, request: RankRequest, deadline: Deadline | None = None, request_id: str = "") -> RankResult:
        """Gives a probability per candidate and target; degraded, and flagged so, when search does not answer.

        Raises:
            InputError: The request breaks the contract; names the field.
            DeadlineExceededError: No time is left to score.
        """
        return self.answer(request, deadline, request_id).result

    def answer(self, request: RankRequest, deadline: Deadline | None = None, request_id: str = "") -> Answer:
        """Gives what `rank` does, and what was retrieved for it.

        Raises:
            InputError, DeadlineExceededError: As `rank`.
        """
        self._validate(request)
        try:
            found, reason = self.retrieve(request, deadline, request_id), ""
        except SearchUnavailableError as exc:
            found, reason = no_history(request), f"{exc.kind}: {exc}"
        except BundleMismatchError as exc:
            found, reason = no_history(request), f"mismatch: {exc}"
        return Answer(result=self.score(request, found, reason, deadline, request_id), found=found)

    def retrieve(
        self,
        request: RankRequest,
        deadline: Deadline | None = None,
        request_id: str = "",
        *,
        delta_sequence: int | None = None,
    ) -> SearchResult:
        """Retrieves what the bundle reads for a request.

        Args:
            request: A request that `rank` takes.
            deadline: Of the request: part of it is kept back for scoring.
            request_id: For the logs of search.
            delta_sequence: See only live events up to this number; None = all.

        Raises:
            SearchUnavailableError: Search does not answer.
            BundleMismatchError: What it answers is not what the bundle was made for.
            InputError: It cannot tell what there was at `delta_sequence`.
        """
        return self._search(request, deadline, request_id, with_names=False, delta_sequence=delta_sequence)

    def score(
        self,
        request: RankRequest,
        found: SearchResult,
        degraded_reason: str = "",
        deadline: Deadline | None = None,
        request_id: str = "",
    ) -> RankResult:
        """Scores a request with what was retrieved for it.

        Args:
            request: A request that `rank` takes.
            found: What search answered, or `no_history`.
            degraded_reason: Why it is without history; empty = it is not.
            deadline: None = take the time it takes.
            request_id: For the logs of search.

        Raises:
            DeadlineExceededError: No time is left to score.
        """
        columns = columns_of(request.targets, self.bundle.targets.names)
        encoded, _, ancestors_reason = self._encode(request, found, deadline, request_id)
        lap("encode")
        output = self._score(encoded, deadline)
        lap("score")
        probability = self._probabilities(output)[:, columns]
        return RankResult(
            targets=tuple(self.bundle.targets.names[at] for at in columns),
            probability=np.ascontiguousarray(probability),
            num_retrieved=np.diff(found.offsets).astype(np.uint32),
            num_behaviors=found.num_behaviors,
            degraded=bool(degraded_reason),
            degraded_reason=degraded_reason,
            versions=self._versions(found),
            ancestors_reason=ancestors_reason,
            missing=self._trained_with.missing(request, found),
            search_differences=self._trained_with.differences(found),
        )

    def explain(
        self, request: RankRequest, candidate: int = 0, deadline: Deadline | None = None, request_id: str = ""
    ) -> ExplainResult:
        """Gives the behaviors behind one candidate's probabilities, with the attention each gets per target.

        Raises:
            InputError: As `rank`, or there is no such candidate.
            SearchUnavailableError: Search does not answer: without history there is nothing to explain.
            BundleMismatchError: What it answers is not what the bundle was made for.
            DeadlineExceededError: No time is left to score.
        """
        columns = self._validate(request)
        if not 0 <= candidate < len(request.candidates):
            raise InputError(f"candidate: {candidate} is outside 0 .. {len(request.candidates) - 1}")
        found = self._search(request, deadline, request_id, with_names=True)
        assert found.names is not None
        encoded, encoder, ancestors_reason = self._encode(request, found, deadline, request_id)
        lap("encode")
        output = self._score(encoded, deadline)
        lap("score")
        return ExplainResult(
            candidate_name=found.names.candidates[candidate],
            targets=tuple(self.bundle.targets.names[at] for at in columns),
            probability=tuple(self._probabilities(output)[candidate, columns].tolist()),
            behaviors=explained_behaviors(found, candidate, output.weight_MT[:, columns]),
            logit=tuple(output.logit_BT[candidate, columns].tolist()),
            contributions=self._contributions(encoder, request, found, candidate, columns, deadline),
            versions=self._versions(found),
            ancestors_reason=ancestors_reason,
            missing=self._trained_with.missing(request, found),
            search_differences=self._trained_with.differences(found),
        )

    def _contributions(
        self,
        encoder: RequestEncoder,
        request: RankRequest,
        found: SearchResult,
        candidate: int,
        columns: list[int],
        deadline: Deadline | None,
    ) -> tuple[Contribution, ...]:
        """Scores the one candidate with everything, and without each part of the input, as one batch."""
        _check_time(deadline)
        schema, only = self.bundle.schema, np.array([candidate])
        parts = parts_of(schema)
        inputs = [(request, found), *(without(part, request, found, schema) for part in parts)]
        with torch.inference_mode():
            output = self.bundle.network(collate([encoder.encode(*each).take(only) for each in inputs]))
        logit_BT = output.logit_BT[:, columns]
        added = (logit_BT[0] - logit_BT[1:]).tolist()
        return tuple(Contribution(part=part, logit=tuple(row)) for part, row in zip(parts, added, strict=True))

    def _validate(self, request: RankRequest) -> list[int]:
        """Checks a request; gives the columns of the targets it asks for."""
        check_request(request, self.bundle.schema, self._now_s(), self._max_clock_skew_s)
        return columns_of(request.targets, self.bundle.targets.names)

    def _search(
        self,
        request: RankRequest,
        deadline: Deadline | None,
        request_id: str,
        *,
        with_names: bool,
        delta_sequence: int | None = None,
    ) -> SearchResult:
        """Retrieves, and checks that the answer is one for this bundle."""
        bundle = self.bundle
        query = request.query(
            newest=bundle.network_config.preset.newest_read,
            with_names=with_names,
            behavior_fields=bundle.schema.side_info,
            delta_sequence=delta_sequence,
        )
        try:
            found = self.retriever.search(query, _deadline_of_search(request, deadline), request_id)
        except FieldError as exc:
            raise schema_mismatch_error(self.bundle, str(exc)) from exc
        finally:
            lap("search")
        check_compatible(self.bundle, found)
        return found

    def _encode(
        self, request: RankRequest, found: SearchResult, deadline: Deadline | None, request_id: str
    ) -> tuple[EncodedRequest, RequestEncoder, str]:
        """Encodes; gives also the encoder that did, and why it does not know all that it could."""
        try:
            return *self._encoder.encode(request, found, _deadline_of_search(request, deadline), request_id), ""
        except SearchUnavailableError as exc:
            encoder = self._encoder.known(found.store_generation)
            return encoder.encode(request, found), encoder, str(exc)

    def _score(self, encoded: EncodedRequest, deadline: Deadline | None) -> NetworkOutput:
        _check_time(deadline)
        with torch.inference_mode():
            return self.bundle.network(collate([encoded]))  # type: ignore[no-any-return]

    def _probabilities(self, output: NetworkOutput) -> F32:
        targets, logits = self.bundle.targets, output.logit_BT.numpy()
        return self.bundle.calibration.probabilities(logits, targets.names, targets.given).astype(np.float32)

    def _versions(self, found: SearchResult) -> Versions:
        return Versions(
            bundle=self.bundle.name,
            store_generation=found.store_generation,
            index_generation=found.index_generation,
            index_model=found.index_model,
            delta_sequence=found.delta_sequence,
        )


def _deadline_of_search(request: RankRequest, deadline: Deadline | None) -> Deadline | None:
    if deadline is None:
        return None
    reserve_s = RESERVE_S + RESERVE_PER_CANDIDATE_S * len(request.candidates)
    return deadline.less(reserve_s + min(RESERVE_SHARE * deadline.remaining_s(), LARGEST_SHARE_S))


def _check_time(deadline: Deadline | None) -> None:
    if deadline is not None and deadline.expired:
        raise DeadlineExceededError("the request's time was spent before scoring")
