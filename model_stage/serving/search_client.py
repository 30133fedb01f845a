"""Asks the search stage over gRPC, with the call and the answer of the in-process searcher."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
import numpy as np

from model_stage.errors import InvalidRequestError, SearchUnavailableError
from protos.lookback.search.v1 import search_pb2 as pb
from protos.lookback.search.v1 import search_pb2_grpc
from serving.deadline import Deadline
from serving.wire.columns import DType, FieldMessage, decode_column, decode_field, encode_column
from store.errors import InputError, UnknownFieldError
from store.lists import Lists, check_offsets
from store.retrieval import (
    Ancestors,
    BehaviorColumns,
    MatchStatistics,
    Names,
    SearchResult,
)
from store.types import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from store.lists import FieldColumn
    from store.retrieval import Candidates, SearchRequest
    from store.types import F32, I32, U64, AnyArray

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

CONNECTIONS = 8
"""A connection stays with one of the workers behind the address: some are needed to reach them all."""


class SearchClient:
    """A `Retriever` over some channels, used in turn; thread-safe, a context manager that closes them.

    A channel connects with its first call and again by itself; making a client never fails because of the server.

    Args:
        address: Host and port of the search stage.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._channels = [grpc.insecure_channel(address, options=CHANNEL_OPTIONS) for _ in range(CONNECTIONS)]
        self._stubs = itertools.cycle([search_pb2_grpc.SearchServiceStub(channel) for channel in self._channels])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the channels; calls in flight end as unavailable. Closing again does nothing."""
        for channel in self._channels:
            channel.close()

    def search(self, request: SearchRequest, deadline: Deadline | None = None, request_id: str = "") -> SearchResult:
        """Retrieves behaviors, bit for bit what the searcher answers in one process.

        Raises:
            SearchUnavailableError: No answer within the deadline, or one that breaks the contract.
            InvalidRequestError: The search stage refuses the request; the message names the field.
            store.errors.UnknownFieldError: The store has no such side-info field, as in one process.
        """
        message = request_to_proto(request, request_id)
        response = self._call(lambda stub, limit_s: stub.Search(message, timeout=limit_s), deadline)
        return _read(lambda: result_from_proto(response, len(request.candidates)))

    def ancestors(self, categories: U64, deadline: Deadline | None = None, request_id: str = "") -> Ancestors:
        """Gives what stands above some categories, as the searcher does in one process.

        Raises:
            SearchUnavailableError: As `search`; so too when it refuses the request or does not know the call yet.
        """
        message = pb.GetAncestorsRequest(categories=_encode(categories), request_id=request_id)
        try:
            response = self._call(lambda stub, limit_s: stub.GetAncestors(message, timeout=limit_s), deadline)
        except InvalidRequestError as error:
            raise SearchUnavailableError(
                f"the search stage refused to say what is above categories: {error}"
            ) from error
        return _read(lambda: ancestors_from_proto(response, len(categories)))

    def _call(self, call: Callable[[search_pb2_grpc.SearchServiceStub, float], R], deadline: Deadline | None) -> R:
        remaining_s = (deadline or Deadline.after(DEFAULT_DEADLINE_S)).remaining_s()
        if remaining_s == 0.0:
            raise SearchUnavailableError("no time was left to ask the search stage")
        try:
            return call(next(self._stubs), remaining_s)
        except grpc.RpcError as error:
            raise _translate(error) from error
        except ValueError as error:  # what grpc raises on a closed channel
            raise SearchUnavailableError("the search client is closed") from error


def _read(read: Callable[[], R]) -> R:
    try:
        return read()
    except InputError as error:
        raise SearchUnavailableError(f"the search stage answered what cannot be read: {error}") from error


def _translate(error: grpc.RpcError) -> SearchUnavailableError | InvalidRequestError | UnknownFieldError:
    """An unused or refused field is the caller's to mend; everything else is met by ranking without history."""
    assert isinstance(error, grpc.Call)
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        details = error.details() or ""
        return UnknownFieldError(details) if details.startswith("behavior_fields[") else InvalidRequestError(details)
    return SearchUnavailableError(f"the search stage answered {error.code().name}")


def request_to_proto(request: SearchRequest, request_id: str = "") -> pb.SearchRequest:
    """Gives the message of a search request."""
    top_k = request.top_k
    return pb.SearchRequest(
        user=request.user,
        as_of_ms=request.as_of_ms,
        candidates=_candidates_to_proto(request.candidates),
        top_k=pb.TopK(hard=top_k.hard, soft=top_k.soft, recent=top_k.recent),
        request_id=request_id,
        with_names=request.with_names,
        behavior_fields=request.behavior_fields,
    )


def _candidates_to_proto(candidates: Candidates) -> pb.Candidates:
    has_more = len(candidates.more_offsets) > 0
    return pb.Candidates(
        item=_encode(candidates.item),
        category=_encode(candidates.category),
        covers=_encode(candidates.covers),
        covers_offsets=_encode(candidates.covers_offsets),
        more_categories=_encode(candidates.more_categories) if has_more else None,
        more_offsets=_encode(candidates.more_offsets) if has_more else None,
    )


def result_from_proto(message: pb.SearchResponse, num_candidates: int) -> SearchResult:
    """Gives the search result a message holds.

    Raises:
        InputError: The message breaks the contract; names the field.
    """
    index = _decode("index", message.index, DType.INT32)
    pairs = len(index)
    offsets = _decode("offsets", message.offsets, DType.INT64, num_candidates + 1)
    check_offsets("offsets", offsets, num_candidates, pairs)
    behaviors = behaviors_from_proto(message.behaviors)
    if pairs and not 0 <= int(index.min()) <= int(index.max()) < len(behaviors):
        raise InputError(f"index: must lie in 0 .. {len(behaviors) - 1}")
    return SearchResult(
        behaviors=behaviors,
        vocabulary=Vocabulary(
            domains=tuple(message.vocabulary.domains),
            actions=tuple(message.vocabulary.actions),
            scenes=tuple(message.vocabulary.scenes),
        ),
        offsets=offsets,
        index=index,
        score=_decode("score", message.score, DType.FLOAT32, pairs),
        match_level=_decode("match_level", message.match_level, DType.UINT8, pairs),
        source=_decode("source", message.source, DType.UINT8, pairs),
        same_as=_same_as(message, num_candidates),
        statistics=_statistics_from_proto(message.statistics, num_candidates),
        candidate_category=_decode("candidate_category", message.candidate_category, DType.UINT64, num_candidates),
        candidate_fields=_fields_from_proto("candidate_fields", message.candidate_fields, num_candidates),
        user_fields=_fields_from_proto("user_fields", message.user_fields, 1),
        num_behaviors=message.num_behaviors,
        num_unknown_items=message.num_unknown_items,
        store_generation=message.store_generation,
        index_generation=message.index_generation,
        index_model=message.index_model,
        behavior_fields=_behavior_fields(message, len(behaviors)),
        names=_names_from_proto(message.names, len(behaviors), num_candidates) if message.HasField("names") else None,
    )


def ancestors_from_proto(message: pb.GetAncestorsResponse, num_categories: int) -> Ancestors:
    """Gives the ancestors a message holds.

    Raises:
        InputError: The message breaks the contract; names the field.
    """
    values = _decode("ancestors", message.ancestors, DType.UINT64)
    offsets = _decode("offsets", message.offsets, DType.INT64, num_categories + 1)
    check_offsets("offsets", offsets, num_categories, len(values))
    return Ancestors(above=Lists(values=values, offsets=offsets), store_generation=message.store_generation)


def _same_as(message: pb.SearchResponse, num_candidates: int) -> I32:
    if not message.HasField("same_as"):  # a search stage of an earlier version
        return np.arange(num_candidates, dtype=np.int32)
    same_as: I32 = _decode("same_as", message.same_as, DType.INT32, num_candidates)
    if bool(np.any(same_as < 0)) or bool(np.any(same_as > np.arange(num_candidates))):
        raise InputError("same_as: must name a candidate before this one, or itself")
    return same_as


def behaviors_from_proto(message: pb.Behaviors) -> BehaviorColumns:
    """Gives the behaviors a message holds.

    Raises:
        InputError: The columns are not of one length, or of the wrong type; names the field.
    """
    item = _decode("behaviors.item", message.item, DType.UINT64)
    length = len(item)
    return BehaviorColumns(
        item=item,
        category=_decode("behaviors.category", message.category, DType.UINT64, length),
        timestamp_ms=_decode("behaviors.timestamp_ms", message.timestamp_ms, DType.INT64, length),
        domain=_decode("behaviors.domain", message.domain, DType.UINT8, length),
        action=_decode("behaviors.action", message.action, DType.UINT8, length),
        scene=_decode("behaviors.scene", message.scene, DType.UINT16, length),
    )


def _statistics_from_proto(message: pb.MatchStatistics, num_candidates: int) -> MatchStatistics:
    streams = tuple((stream.domain, stream.action) for stream in message.streams)
    shape = (num_candidates, message.num_levels, len(streams))
    cells = shape[0] * shape[1] * shape[2]
    total = len(streams)
    return MatchStatistics(
        streams=streams,
        count=_decode("statistics.count", message.count, DType.INT32, cells).reshape(shape),
        age_ms=_decode("statistics.age_ms", message.age_ms, DType.INT64, cells).reshape(shape),
        total_count=_decode("statistics.total_count", message.total_count, DType.INT32, total),
        total_age_ms=_decode("statistics.total_age_ms", message.total_age_ms, DType.INT64, total),
    )


def _names_from_proto(message: pb.Names, num_behaviors: int, num_candidates: int) -> Names:
    for field, names, length in (
        ("names.behavior_items", message.behavior_items, num_behaviors),
        ("names.behavior_categories", message.behavior_categories, num_behaviors),
        ("names.candidates", message.candidates, num_candidates),
        *((f"names.behavior_fields[{each.field!r}]", each.values, num_behaviors) for each in message.behavior_fields),
    ):
        if len(names) != length:
            raise InputError(f"{field}: expected {length} names, got {len(names)}")
    return Names(
        behavior_items=tuple(message.behavior_items),
        behavior_categories=tuple(message.behavior_categories),
        candidates=tuple(message.candidates),
        behavior_fields={each.field: tuple(each.values) for each in message.behavior_fields},
    )


def _fields_from_proto(where: str, columns: Iterable[pb.NamedColumn], length: int) -> dict[str, FieldColumn]:
    return {
        column.name: decode_field(f"{where}[{column.name!r}]", _field_message(column), length) for column in columns
    }


def _behavior_fields(message: pb.SearchResponse, num_behaviors: int) -> dict[str, U64 | F32]:
    fields: dict[str, U64 | F32] = {}
    for name, column in _fields_from_proto("behavior_fields", message.behavior_fields, num_behaviors).items():
        if isinstance(column, Lists):
            raise InputError(f"behavior_fields[{name!r}].offsets: a behavior has one value of a field, and no list")
        fields[name] = column
    return fields


def _field_message(column: pb.NamedColumn) -> FieldMessage:
    return FieldMessage(
        values=(column.values.dtype, column.values.data),
        present=column.present,
        offsets=(column.offsets.dtype, column.offsets.data) if column.HasField("offsets") else None,
    )


def _encode(array: AnyArray) -> pb.Column:
    dtype, data = encode_column(array)
    return pb.Column(dtype=pb.DType.ValueType(dtype), data=data)


def _decode(name: str, column: pb.Column, expected: DType, length: int | None = None) -> AnyArray:
    return decode_column(name, column.dtype, column.data, expected, length)
