"""The calls of `lookback.search.v1`, as every client of it makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.lookback.search.v1 import search_pb2 as pb
from serving.calling.caller import Question
from serving.wire.events import append_from_proto, batch_to_proto
from serving.wire.history import page_from_proto
from serving.wire.search import (
    ancestors_from_proto,
    categories_to_proto,
    request_to_proto,
    result_from_proto,
)

if TYPE_CHECKING:
    from store.delta.batch import AppendResult
    from store.events import EventBatch
    from store.retrieval import Ancestors, HistoryPage, SearchRequest, SearchResult
    from store.types import U64

HISTORY_PAGE = 10_000
"""Behaviors of a page of history: as many as the search stage gives at once."""


def search(request: SearchRequest, request_id: str = "") -> Question[SearchResult]:
    """Retrieves behaviors."""
    message = request_to_proto(request, request_id)
    return Question("Search", message, lambda answer: result_from_proto(answer, len(request.candidates)))


def ancestors(categories: U64, request_id: str = "") -> Question[Ancestors]:
    """Asks what stands above some categories."""
    message = categories_to_proto(categories, request_id)
    return Question("GetAncestors", message, lambda answer: ancestors_from_proto(answer, len(categories)))


def history_page(
    user: int,
    as_of_ms: int,
    token: str = "",
    behavior_fields: tuple[str, ...] = (),
    delta_sequence: int | None = None,
) -> Question[HistoryPage]:
    """Reads one page of a user's behaviors."""
    message = pb.GetHistoryRequest(
        user=user,
        as_of_ms=as_of_ms,
        page_size=HISTORY_PAGE,
        page_token=token,
        behavior_fields=behavior_fields,
        delta_sequence=delta_sequence,
    )
    return Question("GetHistory", message, page_from_proto)


def append(batch: EventBatch) -> Question[AppendResult]:
    """Writes live events."""
    return Question("Append", batch_to_proto(batch), lambda answer: append_from_proto(answer, len(batch.user)))


def delete_user(user: int) -> Question[int]:
    """Deletes a user."""
    return Question("DeleteUser", pb.DeleteUserRequest(user=user), lambda answer: int(answer.num_deleted))
