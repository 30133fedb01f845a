"""Asks the ranking service over gRPC, with the calls and the answers of the in-process ranker; blocking or asyncio."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import grpc

from model_stage.errors import RankingUnavailableError
from model_stage.serving.convert import explanation_from_proto, put_request, request_to_proto, result_from_proto
from protos.lookback.ranking.v1 import ranking_pb2 as pb
from protos.lookback.ranking.v1 import ranking_pb2_grpc
from serving.calling.budget import RetryBudget
from serving.calling.caller import AsyncCaller, Caller, Question
from serving.calling.options import CONNECTIONS, DEFAULT_DEADLINE_S, channel_options
from serving.calling.rules import Rules, as_call, pushback_ms
from serving.deadline import Deadline
from serving.errors import ServingError
from serving.options import PLAIN, ClientSecurity
from serving.security.channel import Channels
from serving.wire.columns import refusal_from_call
from store.closing import Closing
from store.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_stage.types import ExplainResult, RankRequest, RankResult


class RankClient(Closing):
    """The ranking service behind some channels; thread-safe, a context manager that closes them.

    A call that finds nobody, or is refused for too much load with time left, is made a second time over another
    connection, within a budget of a tenth of the calls.

    Args:
        address: Host and port of the ranking service.
        security: How to know the service, and how to be known.

    Raises:
        InputError: A file of the security cannot be used.
    """

    def __init__(self, address: str, security: ClientSecurity = PLAIN) -> None:
        self._channels = Channels(
            address,
            ranking_pb2_grpc.RankingServiceStub,
            security,
            options=channel_options(address),
            count=CONNECTIONS,
        )
        self._caller = Caller(self._channels, Rules(budget=RetryBudget()))

    def close(self) -> None:
        """Closes the channels. Closing again does nothing."""
        self._channels.close()

    def rank(self, request: RankRequest, deadline: Deadline | None = None, request_id: str = "") -> RankResult:
        """Gives a probability per candidate and target, bit for bit what the ranker answers in one process.

        Raises:
            InputError: The service refuses the request; the message names the field.
            DeadlineExceededError: No answer within the deadline.
            RankingUnavailableError: The service cannot be reached, is full or failed.
        """
        with _translated():
            return self._caller.ask(_rank(request, request_id), deadline or Deadline.after(DEFAULT_DEADLINE_S))

    def explain(
        self, request: RankRequest, candidate: int = 0, deadline: Deadline | None = None, request_id: str = ""
    ) -> ExplainResult:
        """Gives the behaviors behind one candidate's probabilities.

        Raises:
            ModelError: As `rank`; also RankingUnavailableError when the service has no search stage to ask.
        """
        question = _explain(request, candidate, request_id)
        with _translated():
            return self._caller.ask(question, deadline or Deadline.after(DEFAULT_DEADLINE_S))


class AsyncRankClient:
    """As `RankClient`, for asyncio: made and used within one event loop, an async context manager."""

    def __init__(self, address: str, security: ClientSecurity = PLAIN) -> None:
        self._channels = Channels(
            address,
            ranking_pb2_grpc.RankingServiceStub,
            security,
            options=channel_options(address),
            count=CONNECTIONS,
            library=grpc.aio,
        )
        self._caller = AsyncCaller(self._channels, Rules(budget=RetryBudget()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channels. Closing again does nothing."""
        await self._channels.aclose()

    async def rank(self, request: RankRequest, deadline: Deadline | None = None, request_id: str = "") -> RankResult:
        """Gives what `RankClient.rank` gives, and raises what that raises."""
        with _translated():
            return await self._caller.ask(_rank(request, request_id), deadline or Deadline.after(DEFAULT_DEADLINE_S))

    async def explain(
        self, request: RankRequest, candidate: int = 0, deadline: Deadline | None = None, request_id: str = ""
    ) -> ExplainResult:
        """Gives what `RankClient.explain` gives, and raises what that raises."""
        question = _explain(request, candidate, request_id)
        with _translated():
            return await self._caller.ask(question, deadline or Deadline.after(DEFAULT_DEADLINE_S))


def _rank(request: RankRequest, request_id: str) -> Question[RankResult]:
    return Question("Rank", request_to_proto(request, request_id), result_from_proto)


def _explain(request: RankRequest, candidate: int, request_id: str) -> Question[ExplainResult]:
    message = pb.ExplainRequest(candidate=candidate)
    put_request(message.request, request, request_id)
    return Question("Explain", message, explanation_from_proto)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        call = as_call(error)
        code = call.code()
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            raise refusal_from_call(call) from error
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise DeadlineExceededError("the ranking service did not answer in time") from error
        raise RankingUnavailableError(
            f"the ranking service answered {code.name}: {call.details() or ''}", retry_after_ms=pushback_ms(error)
        ) from error
    except ServingError as error:
        raise RankingUnavailableError(f"the ranking service cannot be used: {error}") from error
