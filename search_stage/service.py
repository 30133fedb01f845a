"""The search and admin servicers of stage one: messages in, one call of the searcher or the store, messages out.

| raised by the searcher | status | text on the wire |
|---|---|---|
| InvalidRequestError | INVALID_ARGUMENT | the message, which names the field |
| ConfigError, ExportError | FAILED_PRECONDITION | the message, which names the file |
| UnusableIndexError, CorruptIndexError, IndexMismatchError | FAILED_PRECONDITION | the message (what to run) |
| FaissMissingError | FAILED_PRECONDITION | the message (what to install) |
| DeadlineExceededError | DEADLINE_EXCEEDED | the message |
| SearchError | INTERNAL | the request id |

What the store and the edge raise, and whatever is listed nowhere, is in the table of `store.serving.status`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from grpc import StatusCode
from prometheus_client import Counter

from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.search.v1 import search_pb2 as pb
from protos.lookback.search.v1 import search_pb2_grpc
from search_stage import convert, errors
from store.errors import InputError
from store.serving import NotOfferedError, Row, StatusTable, current_call, software_version
from store.types import NO_ID

if TYPE_CHECKING:
    import grpc
    from prometheus_client import CollectorRegistry

    from search_stage.searcher import Searcher
    from store.behavior_store import BehaviorStore, Snapshot
    from store.retrieval import SearchRequest, SearchResult

STATUS_TABLE = StatusTable(
    Row(errors.SearchError, StatusCode.INTERNAL, tell=False),
    Row(errors.InvalidRequestError, StatusCode.INVALID_ARGUMENT),
    Row(errors.ConfigError, StatusCode.FAILED_PRECONDITION),
    Row(errors.ExportError, StatusCode.FAILED_PRECONDITION),
    Row(errors.UnusableIndexError, StatusCode.FAILED_PRECONDITION),
    Row(errors.CorruptIndexError, StatusCode.FAILED_PRECONDITION),
    Row(errors.IndexMismatchError, StatusCode.FAILED_PRECONDITION),
    Row(errors.FaissMissingError, StatusCode.FAILED_PRECONDITION),
    Row(errors.DeadlineExceededError, StatusCode.DEADLINE_EXCEEDED),
)

DEFAULT_PAGE_SIZE = 1_000
LARGEST_PAGE_SIZE = 10_000
_PAGE_TOKEN = re.compile(r"(?P<generation>[0-9a-f-]{1,64})\.(?P<skip>[0-9]{1,10})")


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

    def count(self, request: SearchRequest, result: SearchResult, known_items: int) -> None:
        """Counts one answer."""
        candidates = len(request.candidates)
        self.candidates.inc(candidates)
        self.empty_histories.inc(result.num_behaviors == 0)
        self.unknown_items.inc(candidates - known_items)
        self.unknown_categories.inc(int(np.count_nonzero(result.candidate_category == np.uint64(NO_ID))))


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """Answers `lookback.search.v1.SearchService`."""

    def __init__(self, store: BehaviorStore, searcher: Searcher, metrics: SearchMetrics) -> None:
        self._store = store
        self._searcher = searcher
        self._metrics = metrics

    def Search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:  # noqa: N802
        """Retrieves behaviors for the candidates of one user."""
        call = current_call()
        asked = convert.request_from_proto(request)
        result = self._searcher.search(asked, call.deadline, call.request_id)
        call.check_time()
        with self._store.snapshot() as snapshot:
            taxonomy = snapshot.taxonomy
            known = np.count_nonzero(taxonomy.item_node(asked.candidates.item) != taxonomy.unmapped)
        self._metrics.count(asked, result, int(known))
        return convert.result_to_proto(result)

    def Append(self, request: pb.AppendRequest, context: grpc.ServicerContext) -> pb.AppendResponse:  # noqa: N802
        """Not offered yet."""
        raise NotOfferedError("Append: this version takes behaviors in bulk only, with `lookback-store ingest`")

    def DeleteUser(self, request: pb.DeleteUserRequest, context: grpc.ServicerContext) -> pb.DeleteUserResponse:  # noqa: N802
        """Not offered yet."""
        raise NotOfferedError("DeleteUser: this version deletes by ingesting the dataset without the user")

    def GetHistory(self, request: pb.GetHistoryRequest, context: grpc.ServicerContext) -> pb.GetHistoryResponse:  # noqa: N802
        """Reads one page of a user's behaviors, newest first."""
        if request.user == NO_ID:
            raise InputError("user: 2**64 - 1 is reserved and no user")
        if request.as_of_ms < 0:
            raise InputError(f"as_of_ms: must not be negative, is {request.as_of_ms}")
        if request.page_size > LARGEST_PAGE_SIZE:
            raise InputError(f"page_size: must be at most {LARGEST_PAGE_SIZE}, is {request.page_size}")
        size = request.page_size or DEFAULT_PAGE_SIZE
        with self._store.snapshot() as snapshot:
            skip = _skip(request.page_token, snapshot)
            # One more than the page holds, to know whether there is another page.
            page = snapshot.history(request.user, as_of_ms=request.as_of_ms or None, limit=size + 1, skip=skip)
            more = len(page) > size
            return pb.GetHistoryResponse(
                behaviors=convert.behaviors_to_proto(convert.newest_first(page, size)),
                vocabulary=convert.vocabulary_to_proto(snapshot.vocabulary),
                next_page_token=f"{snapshot.generation}.{skip + size}" if more else "",
                store_generation=snapshot.generation,
            )


def _skip(token: str, snapshot: Snapshot) -> int:
    """Gives the number of behaviors on the pages before; a position means something in its own generation only."""
    if not token:
        return 0
    match = _PAGE_TOKEN.fullmatch(token)
    if match is None:
        raise InputError("page_token: is none that this service gave")
    if match["generation"] != snapshot.generation:
        raise InputError("page_token: the store was replaced since the page before; begin again without a token")
    return int(match["skip"])


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Answers `lookback.admin.v1.AdminService` for stage one."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher

    def Reload(self, request: admin_pb2.ReloadRequest, context: grpc.ServicerContext) -> admin_pb2.ReloadResponse:  # noqa: N802
        """Opens the published store and index; a bad one is refused and the old ones stay."""
        self._searcher.reload()
        return admin_pb2.ReloadResponse(versions=self._versions())

    def GetVersions(  # noqa: N802
        self, request: admin_pb2.GetVersionsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.GetVersionsResponse:
        """Says what is served."""
        return admin_pb2.GetVersionsResponse(versions=self._versions())

    def _versions(self) -> admin_pb2.Versions:
        return admin_pb2.Versions(
            software=software_version(),
            store_generation=self._searcher.store_generation,
            index_generation=self._searcher.index_generation,
        )
