"""The search servicer of stage one: messages in, one call of the searcher or the store, messages out.

| raised by the searcher | status | text on the wire |
|---|---|---|
| ConfigError, ExportError, IndexCheckError | FAILED_PRECONDITION | the message, which names the file or the bar |
| UnusableIndexError, CorruptIndexError, IndexMismatchError | FAILED_PRECONDITION | the message (what to run) |
| FaissMissingError | FAILED_PRECONDITION | the message (what to install) |
| SearchError | INTERNAL | the request id |

What the store and the edge raise, and whatever is listed nowhere, is in the table of `serving.server.status`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from grpc import StatusCode
from prometheus_client import Counter

from protos.lookback.search.v1 import search_pb2 as pb
from protos.lookback.search.v1 import search_pb2_grpc
from search_stage import errors
from serving import (
    LARGEST_MESSAGE_BYTES,
    BulkHistogram,
    NotOfferedError,
    Role,
    Row,
    StatusTable,
    current_call,
    for_role,
    lap,
    request_units,
    takes_up_to,
)
from serving.wire import events
from serving.wire import search as wire
from serving.wire.history import page_to_proto
from store.errors import InputError
from store.retrieval import NO_LEVEL, HistoryPage
from store.types import NO_ID

if TYPE_CHECKING:
    import grpc
    from prometheus_client import CollectorRegistry

    from search_stage.searcher import Searcher
    from store.behavior_store import BehaviorStore
    from store.delta.batch import AppendResult
    from store.live_writer import LiveWriter
    from store.retrieval import SearchResult
    from store.types import I64

STATUS_TABLE = StatusTable(
    Row(errors.SearchError, StatusCode.INTERNAL, tell=False),
    Row(errors.ConfigError, StatusCode.FAILED_PRECONDITION),
    Row(errors.ExportError, StatusCode.FAILED_PRECONDITION),
    Row(errors.IndexCheckError, StatusCode.FAILED_PRECONDITION),
    Row(errors.UnusableIndexError, StatusCode.FAILED_PRECONDITION),
    Row(errors.CorruptIndexError, StatusCode.FAILED_PRECONDITION),
    Row(errors.IndexMismatchError, StatusCode.FAILED_PRECONDITION),
    Row(errors.FaissMissingError, StatusCode.FAILED_PRECONDITION),
)

DEFAULT_PAGE_SIZE = 1_000
LARGEST_PAGE_SIZE = 10_000
LARGEST_APPEND = 10_000
"""Events one Append may bring."""
LARGEST_APPEND_BYTES = 4 * 2**20
"""That many events with some side-info; a small message can become a large object."""
RETRIEVED_BUCKETS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
SEARCH_SERVICE = pb.DESCRIPTOR.services_by_name["SearchService"].full_name
_NO_ID = np.uint64(NO_ID)
_PAGE_TOKEN = re.compile(r"(?P<before>[0-9]{1,15})\.(?P<skip>[0-9]{1,10})")


class SearchMetrics:
    """What stage one counts beyond requests: unknown ids are normal answers, and worth a look when they grow."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.candidates = Counter("lookback_candidates", "Candidates searched for.", registry=registry)
        self.empty_histories = Counter(
            "lookback_empty_histories", "Searches for users with no behavior before the time.", registry=registry
        )
        self.unknown_items = Counter(
            "lookback_unknown_items", "Candidates whose item the store does not know.", registry=registry
        )
        self.unknown_categories = Counter(
            "lookback_unknown_categories", "Candidates searched without a category.", registry=registry
        )

        self.retrieved = BulkHistogram(
            "lookback_retrieved_behaviors", "Behaviors retrieved for a candidate.", RETRIEVED_BUCKETS, registry
        )
        self.matches = Counter(
            "lookback_matches",
            "Retrieved behaviors by match level: levels that hard search climbed, or none = it did not find them.",
            ["level"],
            registry=registry,
        )
        self.events = Counter(
            "lookback_appended_events",
            "Events that Append took, by what became of them.",
            ["result"],
            registry=registry,
        )

    def count_append(self, result: AppendResult) -> None:
        """Counts one append."""
        self.events.labels("accepted").inc(result.num_accepted)
        self.events.labels("duplicate").inc(result.num_duplicates)
        self.events.labels("refused").inc(result.num_refused)

    def count(self, result: SearchResult) -> None:
        """Counts one answer."""
        self.candidates.inc(len(result.candidate_category))
        if result.num_behaviors == 0:
            self.empty_histories.inc()
        if result.num_unknown_items:
            self.unknown_items.inc(result.num_unknown_items)
        if unknown := np.count_nonzero(result.candidate_category == _NO_ID):
            self.unknown_categories.inc(int(unknown))
        self.retrieved.observe(np.diff(result.offsets))
        by_level = np.bincount(result.match_level, minlength=1)
        for level in np.flatnonzero(by_level).tolist():
            self.matches.labels("none" if level == NO_LEVEL else str(level)).inc(int(by_level[level]))


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """Answers `lookback.search.v1.SearchService`."""

    def __init__(
        self, store: BehaviorStore, searcher: Searcher, metrics: SearchMetrics, writer: LiveWriter | None = None
    ) -> None:
        """Serves a store.

        Args:
            store: What is read.
            searcher: The searcher over it.
            metrics: What to count in.
            writer: The writer of its delta; None = Append and DeleteUser are not offered.
        """
        self._store = store
        self._searcher = searcher
        self._metrics = metrics
        self._writer = writer

    @for_role(Role.RANK)
    @takes_up_to(LARGEST_MESSAGE_BYTES)
    def Search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:  # noqa: N802
        """Retrieves behaviors for the candidates of one user."""
        call = current_call()
        asked = wire.request_from_proto(request)
        lap("decode")
        result = self._searcher.search(asked, call.deadline, call.request_id)
        lap("describe")
        call.check_time()
        call.units = request_units(len(asked.candidates), result.num_behaviors)
        self._metrics.count(result)
        return wire.result_to_proto(result)

    def search_units(self, request: pb.SearchRequest) -> float:
        """Gives what a search will cost: reads how long the history is, and nothing else of it."""
        with self._store.snapshot() as snapshot:
            num_behaviors = snapshot.user(request.user).num_rows
        return request_units(len(request.candidates.item.data) // 8, num_behaviors)

    @for_role(Role.WRITE)
    @takes_up_to(LARGEST_APPEND_BYTES)
    def Append(self, request: pb.AppendRequest, context: grpc.ServicerContext) -> pb.AppendResponse:  # noqa: N802
        """Writes live events; answers once they are durable."""
        writer = self._offered("Append")
        length = len(request.user.data) // 8
        if length > LARGEST_APPEND:
            raise InputError(f"user: at most {LARGEST_APPEND} events a call, got {length}")
        batch = events.batch_from_proto(request)
        lap("decode")
        current_call().check_time()
        result = writer.append(batch)
        lap("write")
        self._metrics.count_append(result)
        return events.append_to_proto(result)

    @for_role(Role.WRITE, audited=True)
    def DeleteUser(self, request: pb.DeleteUserRequest, context: grpc.ServicerContext) -> pb.DeleteUserResponse:  # noqa: N802
        """Deletes a user, at once and for good."""
        writer = self._offered("DeleteUser")
        if request.user == NO_ID:
            raise InputError("user: 2**64 - 1 is reserved and no user")
        return pb.DeleteUserResponse(num_deleted=writer.delete_user(request.user))

    @for_role(Role.READ_HISTORY)
    def GetHistory(self, request: pb.GetHistoryRequest, context: grpc.ServicerContext) -> pb.GetHistoryResponse:  # noqa: N802
        """Reads one page of a user's behaviors, newest first."""
        if request.user == NO_ID:
            raise InputError("user: 2**64 - 1 is reserved and no user")
        if request.as_of_ms < 0:
            raise InputError(f"as_of_ms: must not be negative, is {request.as_of_ms}")
        if request.page_size > LARGEST_PAGE_SIZE:
            raise InputError(f"page_size: must be at most {LARGEST_PAGE_SIZE}, is {request.page_size}")
        if len(set(request.behavior_fields)) < len(request.behavior_fields):
            raise InputError("behavior_fields: a field is named twice")
        size = request.page_size or DEFAULT_PAGE_SIZE
        as_of_ms, skip = _position(request.page_token, request.as_of_ms or None)
        up_to = request.delta_sequence if request.HasField("delta_sequence") else None
        with self._store.snapshot(up_to) as snapshot:
            user = snapshot.user(request.user)
            # One more than the page holds, to know whether there is another page.
            positions = user.positions(as_of_ms=as_of_ms, limit=size + 1, skip=skip)
            newest_first = positions[: -size - 1 : -1]
            behaviors = user.behaviors(positions)
            page = HistoryPage(
                behaviors=behaviors.take(slice(None, -size - 1, -1)),
                behavior_fields=user.behavior_fields(newest_first, tuple(request.behavior_fields)),
                vocabulary=snapshot.vocabulary,
                next_page_token=_next_token(behaviors.timestamp_ms, as_of_ms, skip) if len(positions) > size else "",
                store_generation=snapshot.generation,
            )
            lap("read")
            return page_to_proto(page)

    @for_role(Role.RANK)
    def GetAncestors(self, request: pb.GetAncestorsRequest, context: grpc.ServicerContext) -> pb.GetAncestorsResponse:  # noqa: N802
        """Reads what stands above some categories."""
        ancestors = self._searcher.ancestors(wire.categories_from_proto(request))
        return wire.ancestors_to_proto(ancestors)

    def _offered(self, name: str) -> LiveWriter:
        if self._writer is None:
            raise NotOfferedError(f"{name}: this server only reads; start one with --append")
        return self._writer


def _position(token: str, as_of_ms: int | None) -> tuple[int | None, int]:
    """Gives where a page starts: before which time, and how many of the newest there were on the pages before.

    A position is a time, so that it stays right when newer behaviors are appended and when a generation is published.
    """
    if not token:
        return as_of_ms, 0
    match = _PAGE_TOKEN.fullmatch(token)
    if match is None:
        raise InputError("page_token: is none that this service gave")
    return int(match["before"]), int(match["skip"])


def _next_token(timestamp_ms: I64, as_of_ms: int | None, skip: int) -> str:
    """Gives the token of the page behind one.

    Args:
        timestamp_ms: Times of the page, oldest first; the first row is one more than the page shows.
        as_of_ms: Where the page started; so does `skip`.
        skip: See `_position`.
    """
    last = int(timestamp_ms[1])
    shown = int((timestamp_ms[1:] == last).sum())
    if as_of_ms is not None and last == as_of_ms - 1:
        shown += skip
    return f"{last + 1}.{shown}"
