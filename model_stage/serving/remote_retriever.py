"""Asks the search stage over gRPC, with the calls and the answers of the in-process searcher."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import grpc

from model_stage.errors import SearchUnavailableError
from model_stage.serving.whole_history import search_whole
from protos.lookback.search.v1 import search_pb2_grpc
from serving.calling.budget import RetryBudget
from serving.calling.caller import Caller
from serving.calling.circuit import Circuit
from serving.calling.options import CONNECTIONS, DEFAULT_DEADLINE_S, channel_options
from serving.calling.rules import Rules, as_call
from serving.deadline import Deadline
from serving.errors import CircuitOpenError, ServingError
from serving.options import PLAIN, ClientSecurity
from serving.security.channel import Channels
from serving.wire import questions
from serving.wire.columns import refusal_from_call
from store.closing import Closing
from store.errors import DeadlineExceededError, InputError
from store.retrieval import WHOLE_HISTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_stage.errors import Degraded
    from serving.calling.caller import Question
    from serving.calling.rules import CallObserver
    from store.retrieval import Ancestors, HistoryPage, SearchRequest, SearchResult
    from store.types import U64

R = TypeVar("R")
_KINDS: dict[grpc.StatusCode, Degraded] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "timeout",
    grpc.StatusCode.UNAVAILABLE: "unavailable",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "overloaded",
}


class RemoteRetriever(Closing):
    """A `Retriever` over some channels, used in turn; thread-safe, a context manager that closes them.

    A channel connects with its first call and again by itself; making a retriever never fails because of the server.
    While the search stage does not answer, it is asked once a second at most: see `serving.calling.circuit`.

    Args:
        address: Host and port of the search stage.
        security: How to know the search stage, and how to be known.
        observer: Is told of every call.

    Raises:
        InputError: A file of the security cannot be used.
    """

    def __init__(self, address: str, security: ClientSecurity = PLAIN, observer: CallObserver | None = None) -> None:
        self.address = address
        self.circuit = Circuit()
        self._channels = Channels(
            address,
            search_pb2_grpc.SearchServiceStub,
            security,
            options=channel_options(address),
            count=CONNECTIONS,
        )
        self._caller = Caller(self._channels, Rules(circuit=self.circuit, observer=observer, budget=RetryBudget()))

    def close(self) -> None:
        """Closes the channels; calls in flight end as unavailable. Closing again does nothing."""
        self._channels.close()

    def search(self, request: SearchRequest, deadline: Deadline | None = None, request_id: str = "") -> SearchResult:
        """Retrieves behaviors, bit for bit what the searcher answers in one process.

        Where the whole history is asked for (`WHOLE_HISTORY`), it is read by pages of `GetHistory` after the search.

        Raises:
            SearchUnavailableError: No answer within the deadline, or one that breaks the contract.
            InputError: The search stage refuses the request; the message names the field.
            store.errors.FieldError: The store has no such side-info field, as in one process.
        """
        deadline = deadline or Deadline.after(DEFAULT_DEADLINE_S)
        if request.newest != WHOLE_HISTORY:
            return self._ask(questions.search(request, request_id), deadline)

        def page(token: str, delta_sequence: int) -> HistoryPage:
            of = request.user, request.as_of_ms, token, request.behavior_fields, delta_sequence
            return self._ask(questions.history_page(*of), deadline)

        bounded = replace(request, newest=0)
        return search_whole(lambda: self._ask(questions.search(bounded, request_id), deadline), page)

    def ancestors(self, categories: U64, deadline: Deadline | None = None, request_id: str = "") -> Ancestors:
        """Gives what stands above some categories, as the searcher does in one process.

        Raises:
            SearchUnavailableError: As `search`; so too when it refuses the request or does not know the call yet.
        """
        try:
            return self._ask(
                questions.ancestors(categories, request_id), deadline or Deadline.after(DEFAULT_DEADLINE_S)
            )
        except InputError as error:
            raise SearchUnavailableError(
                f"the search stage refused to say what is above categories: {error}", "failed"
            ) from error

    def _ask(self, question: Question[R], deadline: Deadline) -> R:
        with _translated():
            return self._caller.ask(question, deadline)


@contextmanager
def _translated() -> Iterator[None]:
    """A refused request is the caller's to mend; everything else is met by ranking without history."""
    try:
        yield
    except grpc.RpcError as error:
        call = as_call(error)
        code = call.code()
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            raise refusal_from_call(call) from error
        raise SearchUnavailableError(f"the search stage answered {code.name}", _KINDS.get(code, "failed")) from error
    except DeadlineExceededError as error:
        raise SearchUnavailableError("no time was left to ask the search stage", "timeout") from error
    except CircuitOpenError as error:
        raise SearchUnavailableError(f"the search stage is not asked: {error}", "circuit_open") from error
    except ServingError as error:
        raise SearchUnavailableError(f"the search stage cannot be used: {error}", "failed") from error
