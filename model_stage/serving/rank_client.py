"""Asks the ranking service over gRPC, with the calls and the answers of the in-process ranker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from model_stage.errors import ModelError, RankingUnavailableError
from model_stage.serving.convert import explanation_from_proto, put_request, request_to_proto, result_from_proto
from protos.lookback.ranking.v1 import ranking_pb2 as pb
from protos.lookback.ranking.v1 import ranking_pb2_grpc
from serving.deadline import Deadline
from serving.options import PLAIN, ClientSecurity
from serving.security.channel import Channels
from serving.wire.columns import refusal_from_call
from store.closing import Closing
from store.errors import DeadlineExceededError, InputError

if TYPE_CHECKING:
    from model_stage.types import ExplainResult, RankRequest, RankResult

DEFAULT_DEADLINE_S = 10.0
"""For callers that set none."""


class RankClient(Closing):
    """The ranking service behind one channel; thread-safe, a context manager that closes the channel.

    Args:
        address: Host and port of the ranking service.
        security: How to know the service, and how to be known.

    Raises:
        InputError: A file of the security cannot be used.
    """

    def __init__(self, address: str, security: ClientSecurity = PLAIN) -> None:
        self._channels = Channels(address, ranking_pb2_grpc.RankingServiceStub, security)

    def close(self) -> None:
        """Closes the channel. Closing again does nothing."""
        self._channels.close()

    def rank(self, request: RankRequest, deadline: Deadline | None = None, request_id: str = "") -> RankResult:
        """Gives a probability per candidate and target, bit for bit what the ranker answers in one process.

        Raises:
            InputError: The service refuses the request; the message names the field.
            DeadlineExceededError: No answer within the deadline.
            RankingUnavailableError: The service cannot be reached, is full or failed.
        """
        message = request_to_proto(request, request_id)
        stub, metadata = self._channels.next()
        try:
            return result_from_proto(stub.Rank(message, timeout=_remaining_s(deadline), metadata=metadata))
        except grpc.RpcError as error:
            raise _translate(error) from error

    def explain(
        self, request: RankRequest, candidate: int = 0, deadline: Deadline | None = None, request_id: str = ""
    ) -> ExplainResult:
        """Gives the behaviors behind one candidate's probabilities.

        Raises:
            ModelError: As `rank`; also RankingUnavailableError when the service has no search stage to ask.
        """
        message = pb.ExplainRequest(candidate=candidate)
        put_request(message.request, request, request_id)
        stub, metadata = self._channels.next()
        try:
            return explanation_from_proto(stub.Explain(message, timeout=_remaining_s(deadline), metadata=metadata))
        except grpc.RpcError as error:
            raise _translate(error) from error


def _remaining_s(deadline: Deadline | None) -> float:
    return (deadline or Deadline.after(DEFAULT_DEADLINE_S)).remaining_s()


def _translate(error: grpc.RpcError) -> ModelError | InputError | DeadlineExceededError:
    assert isinstance(error, grpc.Call)
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return refusal_from_call(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceededError("the ranking service did not answer in time")
    return RankingUnavailableError(f"the ranking service answered {code.name}: {details}")
