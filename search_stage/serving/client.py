"""Asks the search service over gRPC, with the calls and answers of searcher, store and writer; blocking or asyncio."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

import grpc

from protos.lookback.search.v1 import search_pb2_grpc
from search_stage.errors import SearchServiceError
from serving.calling.budget import RetryBudget
from serving.calling.caller import AsyncCaller, Caller
from serving.calling.options import CONNECTIONS, DEFAULT_DEADLINE_S, channel_options
from serving.calling.rules import Rules, as_call, pushback_ms
from serving.deadline import Deadline
from serving.errors import ServingError
from serving.options import PLAIN, ClientSecurity
from serving.security.channel import Channels
from serving.wire import questions
from serving.wire.columns import refusal_from_call
from store.closing import Closing
from store.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from serving.calling.caller import Question
    from store.delta.batch import AppendResult
    from store.events import EventBatch
    from store.retrieval import Ancestors, HistoryPage, SearchRequest, SearchResult
    from store.types import U64

R = TypeVar("R")


class SearchClient(Closing):
    """The search service behind some channels; thread-safe, a context manager that closes them.

    A call that finds nobody, or is refused for too much load with time left, is made a second time over another
    connection, within a budget of a tenth of the calls. Nothing is done twice by that: an event counts once.

    Args:
        address: Host and port of the search service.
        security: How to know the service, and how to be known.

    Every method takes the deadline of its call, 10 seconds where there is none, and raises:
        InputError: The service refuses the request; the message names the field.
        DeadlineExceededError: No answer within the deadline; events may have been written.
        SearchServiceError: The service cannot be reached, is full, does not offer this or failed.
    """

    def __init__(self, address: str, security: ClientSecurity = PLAIN) -> None:
        self._channels = Channels(
            address, search_pb2_grpc.SearchServiceStub, security, options=channel_options(address), count=CONNECTIONS
        )
        self._caller = Caller(self._channels, Rules(budget=RetryBudget()))

    def close(self) -> None:
        """Closes the channels. Closing again does nothing."""
        self._channels.close()

    def search(self, request: SearchRequest, deadline: Deadline | None = None, request_id: str = "") -> SearchResult:
        """Retrieves behaviors, as `Searcher.search` does."""
        return self._ask(questions.search(request, request_id), deadline)

    def ancestors(self, categories: U64, deadline: Deadline | None = None, request_id: str = "") -> Ancestors:
        """Gives what stands above some categories, as `Searcher.ancestors` does."""
        return self._ask(questions.ancestors(categories, request_id), deadline)

    def history(self, user: int, *, as_of_ms: int = 0, deadline: Deadline | None = None) -> Iterator[HistoryPage]:
        """Gives a user's behaviors, the newest first, in pages.

        Args:
            user: Who.
            as_of_ms: Only behaviors before this time; 0 = all.
            deadline: Of all pages together.
        """
        deadline = deadline or Deadline.after(DEFAULT_DEADLINE_S)
        token = None
        while token != "":
            page = self._ask(questions.history_page(user, as_of_ms, token or ""), deadline)
            token = page.next_page_token
            yield page

    def append(self, batch: EventBatch, deadline: Deadline | None = None) -> AppendResult:
        """Writes live events, as `LiveWriter.append` does; `sequence` is 0, it does not travel."""
        return self._ask(questions.append(batch), deadline)

    def delete_user(self, user: int, deadline: Deadline | None = None) -> int:
        """Deletes a user for good, as `LiveWriter.delete_user` does."""
        return self._ask(questions.delete_user(user), deadline)

    def _ask(self, question: Question[R], deadline: Deadline | None) -> R:
        with _translated():
            return self._caller.ask(question, deadline or Deadline.after(DEFAULT_DEADLINE_S))


class AsyncSearchClient:
    """As `SearchClient`, for asyncio: made and used within one event loop, an async context manager."""

    def __init__(self, address: str, security: ClientSecurity = PLAIN) -> None:
        self._channels = Channels(
            address,
            search_pb2_grpc.SearchServiceStub,
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

    async def search(
        self, request: SearchRequest, deadline: Deadline | None = None, request_id: str = ""
    ) -> SearchResult:
        """Retrieves behaviors, as `Searcher.search` does."""
        return await self._ask(questions.search(request, request_id), deadline)

    async def ancestors(self, categories: U64, deadline: Deadline | None = None, request_id: str = "") -> Ancestors:
        """Gives what stands above some categories, as `Searcher.ancestors` does."""
        return await self._ask(questions.ancestors(categories, request_id), deadline)

    async def history(
        self, user: int, *, as_of_ms: int = 0, deadline: Deadline | None = None
    ) -> AsyncIterator[HistoryPage]:
        """Gives what `SearchClient.history` gives."""
        deadline = deadline or Deadline.after(DEFAULT_DEADLINE_S)
        token = None
        while token != "":
            page = await self._ask(questions.history_page(user, as_of_ms, token or ""), deadline)
            token = page.next_page_token
            yield page

    async def append(self, batch: EventBatch, deadline: Deadline | None = None) -> AppendResult:
        """Writes live events, as `SearchClient.append` does."""
        return await self._ask(questions.append(batch), deadline)

    async def delete_user(self, user: int, deadline: Deadline | None = None) -> int:
        """Deletes a user for good, as `LiveWriter.delete_user` does."""
        return await self._ask(questions.delete_user(user), deadline)

    async def _ask(self, question: Question[R], deadline: Deadline | None) -> R:
        with _translated():
            return await self._caller.ask(question, deadline or Deadline.after(DEFAULT_DEADLINE_S))


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
            raise DeadlineExceededError("the search service did not answer in time") from error
        raise SearchServiceError(
            f"the search service answered {code.name}: {call.details() or ''}", retry_after_ms=pushback_ms(error)
        ) from error
    except ServingError as error:
        raise SearchServiceError(f"the search service cannot be used: {error}") from error
