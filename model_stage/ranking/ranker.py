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
from model_stage.ranking.ablation import no_statistics, parts_of, without
from model_stage.ranking.compatibility import check_compatible, check_retriever, schema_mismatch_error
from model_stage.ranking.validate import check_request, columns_of
from model_stage.types import Contribution, ExplainedBehavior, ExplainResult, RankResult, Versions
from store.errors import DeadlineExceededError, FieldError, InputError
from store.retrieval import BehaviorColumns, SearchResult
from store.types import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from model_stage.bundle import Bundle
    from model_stage.encoding.batch import EncodedRequest
    from model_stage.encoding.encoder import RequestEncoder
    from model_stage.networks import NetworkOutput
    from model_stage.types import RankRequest, Retriever
    from serving.deadline import Deadline
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
        self._max_clock_skew_s = max_clock_skew_s
        self._now_s = now_s

    @staticmethod
    def load(root: Path, retriever: Retriever) -> Ranker:
        """Gives a ranker over the published bundle; asks the retriever at once whether the two go together.

        Args:
            root: Root of model bundles.
            retriever: The in-process searcher, or the gRPC client of the search stage.

        Raises:
            BundleMismatchError: The index or the store behind the retriever is not what the bundle was made for. Where
                the retriever does not answer yet, that is found with the first request, whose answer is degraded.
            store.errors.GenerationError, BundleError, ConfigError: As `model_stage.bundle.load_bundle`.
        """
        bundle = load_bundle(root)
        check_retriever(bundle, retriever)
        return Ranker(bundle, retriever)

    def rank(self, request: RankRequest, deadline: Deadline | None = None, request_id: str = "") -> RankResult:
        """Gives a probability per candidate and target; degraded, and flagged so, when search does not answer.

        Raises:
            InputError: The request breaks the contract; names the field.
            DeadlineExceededError: No time is left to score.
        """
        columns = self._validate(request)
        try:
            found, reason = self._search(request, deadline, request_id, with_names=False), ""
        except (SearchUnavailableError, BundleMismatchError) as exc:
            found, reason = _no_history(request), str(exc)
        encoded, _, ancestors_reason = self._encode(request, found, deadline, request_id)
        output = self._score(encoded, deadline)
        probability = self._probabilities(output)[:, columns]
        return RankResult(
            targets=tuple(self.bundle.targets.names[at] for at in columns),
            probability=np.ascontiguousarray(probability),
            num_retrieved=np.diff(found.offsets).astype(np.uint32),
            num_behaviors=found.num_behaviors,
            degraded=bool(reason),
            degraded_reason=reason,
            versions=self._versions(found),
            ancestors_reason=ancestors_reason,
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
        output = self._score(encoded, deadline)
        side_info = found.readable_fields()
        first, last = int(found.offsets[candidate]), int(found.offsets[candidate + 1])
        behaviors, vocabulary = found.behaviors, found.vocabulary
        explained = tuple(
            ExplainedBehavior(
                item=int(behaviors.item[row]),
                item_name=found.names.behavior_items[row],
                category=int(behaviors.category[row]),
                category_name=found.names.behavior_categories[row],
                timestamp_ms=int(behaviors.timestamp_ms[row]),
                domain=vocabulary.domains[behaviors.domain[row]],
                action=vocabulary.actions[behaviors.action[row]],
                scene=vocabulary.scenes[behaviors.scene[row]],
                side_info={name: values[row] for name, values in side_info.items()},
                match_level=int(found.match_level[pair]),
                source=int(found.source[pair]),
                score=float(found.score[pair]),
                attention=tuple(float(output.weight_MT[pair, at]) for at in columns),
            )
            for pair, row in enumerate(found.index[first:last].tolist(), start=first)
        )
        return ExplainResult(
            candidate_name=found.names.candidates[candidate],
            targets=tuple(self.bundle.targets.names[at] for at in columns),
            probability=tuple(self._probabilities(output)[candidate, columns].tolist()),
            behaviors=explained,
            logit=tuple(output.logit_BT[candidate, columns].tolist()),
            contributions=self._contributions(encoder, request, found, candidate, columns, deadline),
            versions=self._versions(found),
            ancestors_reason=ancestors_reason,
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
        self, request: RankRequest, deadline: Deadline | None, request_id: str, *, with_names: bool
    ) -> SearchResult:
        """Retrieves, and checks that the answer is one for this bundle."""
        bundle = self.bundle
        query = request.query(
            newest=bundle.network_config.preset.newest_read,
            with_names=with_names,
            behavior_fields=bundle.schema.side_info,
        )
        try:
            found = self.retriever.search(query, _deadline_of_search(request, deadline), request_id)
        except FieldError as exc:
            raise schema_mismatch_error(self.bundle, str(exc)) from exc
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
        return self.bundle.calibration.probabilities(
            output.logit_BT.numpy(), self.bundle.targets.names, self.bundle.targets.given
        )

    def _versions(self, found: SearchResult) -> Versions:
        return Versions(
            bundle=self.bundle.name,
            store_generation=found.store_generation,
            index_generation=found.index_generation,
            index_model=found.index_model,
        )


def _deadline_of_search(request: RankRequest, deadline: Deadline | None) -> Deadline | None:
    if deadline is None:
        return None
    reserve_s = RESERVE_S + RESERVE_PER_CANDIDATE_S * len(request.candidates)
    return deadline.less(reserve_s + min(RESERVE_SHARE * deadline.remaining_s(), LARGEST_SHARE_S))


def _check_time(deadline: Deadline | None) -> None:
    if deadline is not None and deadline.expired:
        raise DeadlineExceededError("the request's time was spent before scoring")


def _no_history(request: RankRequest) -> SearchResult:
    """Gives what search would answer for a user without behaviors, without asking it."""
    count = len(request.candidates)
    return SearchResult(
        behaviors=BehaviorColumns(
            item=np.empty(0, np.uint64),
            category=np.empty(0, np.uint64),
            timestamp_ms=np.empty(0, np.int64),
            domain=np.empty(0, np.uint8),
            action=np.empty(0, np.uint8),
            scene=np.empty(0, np.uint16),
        ),
        vocabulary=Vocabulary(domains=(), actions=(), scenes=()),
        offsets=np.zeros(count + 1, np.int64),
        index=np.empty(0, np.int32),
        score=np.empty(0, np.float32),
        match_level=np.empty(0, np.uint8),
        source=np.empty(0, np.uint8),
        same_as=np.zeros(count, np.int32),
        statistics=no_statistics(count),
        candidate_category=request.candidates.category,
        num_behaviors=0,
        store_generation="",
        index_generation="",
    )
