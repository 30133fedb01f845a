"""Asks the search stage over gRPC, with the call and the answer of the in-process searcher."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import grpc

from model_stage.errors import SearchUnavailableError
from model_stage.serving.whole_history import search_whole
from protos.lookback.search.v1 import search_pb2 as pb
from protos.lookback.search.v1 import search_pb2_grpc
from serving.deadline import Deadline
from serving.options import PLAIN, ClientSecurity
from serving.security.channel import Channels
from serving.wire import search as wire
from serving.wire.columns import refusal_from_call
from serving.wire.history import page_from_proto
from store.closing import Closing
from store.errors import InputError
from store.retrieval import WHOLE_HISTORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.security.channel import Metadata
    from store.retrieval import Ancestors, HistoryPage, SearchRequest, SearchResult
    from store.types import U64

R = TypeVar("R")
DEFAULT_DEADLINE_S = 10.0
"""For callers that set none, as an offline job."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 64 * 2**20),  # 1,000 candidates with 2,000 behaviors each fit
    ("grpc.initial_reconnect_backoff_ms", 100),  # a restarted search stage is found again within a second
    ("grpc.max_reconnect_backoff_ms", 1000),
    # What gRPC gives an attempt to connect: a server may need long for its first word. A call has its own deadline.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.enable_retries", 0),  # a degraded answer in time is worth more than a second try
    ("grpc.use_local_subchannel_pool", 1),  # else channels to one address share a connection
)

HISTORY_PAGE = 10_000
"""Behaviors of a page of history: as many as the search stage gives at once."""

CONNECTIONS = 8
"""A connection stays with one of the workers behind the address: some are needed to reach them all."""


class SearchClient(Closing):
    """A `Retriever` over some channels, used in turn; thread-safe, a context manager that closes them.

    A channel connects with its first call and again by itself; making a client never fails because of the server.

    Args:
        address: Host and port of the search stage.
        security: How to know the search stage, and how to be known.

    Raises:
        InputError: A file of the security cannot be used.
    """

    def __init__(self, address: str, security: ClientSecurity = PLAIN) -> None:
        self.address = address
        self._channels = Channels(
            address, search_pb2_grpc.SearchServiceStub, security, options=CHANNEL_OPTIONS, count=CONNECTIONS
        )

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
        if request.newest == WHOLE_HISTORY:
            return self._search_whole(
                replace(request, newest=0), deadline or Deadline.after(DEFAULT_DEADLINE_S), request_id
            )
        message = wire.request_to_proto(request, request_id)
        response = self._call(
            lambda stub, limit_s, metadata: stub.Search(message, timeout=limit_s, metadata=metadata), deadline
        )
        return _read(lambda: wire.result_from_proto(response, len(request.candidates)))

    def _search_whole(self, request: SearchRequest, deadline: Deadline, request_id: str) -> SearchResult:
        message = pb.GetHistoryRequest(
            user=request.user,
            as_of_ms=request.as_of_ms,
            page_size=HISTORY_PAGE,
            behavior_fields=request.behavior_fields,
        )

        def page(token: str) -> HistoryPage:
            message.page_token = token
            response = self._call(
                lambda stub, limit_s, metadata: stub.GetHistory(message, timeout=limit_s, metadata=metadata), deadline
            )
            return _read(lambda: page_from_proto(response))

        return search_whole(lambda: self.search(request, deadline, request_id), page)

    def ancestors(self, categories: U64, deadline: Deadline | None = None, request_id: str = "") -> Ancestors:
        """Gives what stands above some categories, as the searcher does in one process.

        Raises:
            SearchUnavailableError: As `search`; so too when it refuses the request or does not know the call yet.
        """
        message = wire.categories_to_proto(categories, request_id)
        try:
            response = self._call(
                lambda stub, limit_s, metadata: stub.GetAncestors(message, timeout=limit_s, metadata=metadata), deadline
            )
        except InputError as error:
            raise SearchUnavailableError(
                f"the search stage refused to say what is above categories: {error}"
            ) from error
        return _read(lambda: wire.ancestors_from_proto(response, len(categories)))

    def _call(
        self, call: Callable[[search_pb2_grpc.SearchServiceStub, float, Metadata], R], deadline: Deadline | None
    ) -> R:
        remaining_s = (deadline or Deadline.after(DEFAULT_DEADLINE_S)).remaining_s()
        if remaining_s == 0.0:
            raise SearchUnavailableError("no time was left to ask the search stage")
        stub, metadata = self._channels.next()
        try:
            return call(stub, remaining_s, metadata)
        except grpc.RpcError as error:
            raise _translate(error) from error
        except ValueError as error:  # what grpc raises on a closed channel
            raise SearchUnavailableError("the search client is closed") from error


def _read(read: Callable[[], R]) -> R:
    try:
        return read()
    except InputError as error:
        raise SearchUnavailableError(f"the search stage answered what cannot be read: {error}") from error


def _translate(error: grpc.RpcError) -> SearchUnavailableError | InputError:
    """A refused request is the caller's to mend; everything else is met by ranking without history."""
    assert isinstance(error, grpc.Call)
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return refusal_from_call(error)
    return SearchUnavailableError(f"the search stage answered {error.code().name}")
