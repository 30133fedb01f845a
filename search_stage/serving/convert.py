"""Maps `lookback.search.v1` messages to the contract of `store.retrieval`, and answers back to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protos.lookback.search.v1 import search_pb2 as pb
from serving.wire.columns import DType, FieldMessage, decode_column, decode_field, encode_column, encode_field
from store.errors import InputError
from store.events import EventBatch
from store.lists import Lists
from store.retrieval import BehaviorColumns, Candidates, SearchRequest, TopK
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from store.delta.batch import AppendResult
    from store.lists import FieldColumn
    from store.retrieval import Ancestors, MatchStatistics, Names, SearchResult
    from store.types import F32, U64, AnyArray, Vocabulary


def request_from_proto(message: pb.SearchRequest) -> SearchRequest:
    """Gives the request a message holds. Sizes and times are left for the searcher to judge.

    Raises:
        InputError: A column of another type or length than the contract's, or offsets that descend; names the field.
    """
    return SearchRequest(
        user=message.user,
        as_of_ms=message.as_of_ms,
        candidates=candidates_from_proto(message.candidates),
        top_k=TopK(
            hard=message.top_k.hard if message.top_k.HasField("hard") else None,
            soft=message.top_k.soft if message.top_k.HasField("soft") else None,
            recent=message.top_k.recent if message.top_k.HasField("recent") else None,
        ),
        with_names=message.with_names,
        behavior_fields=tuple(message.behavior_fields),
    )


def candidates_from_proto(message: pb.Candidates) -> Candidates:
    """Gives the candidates a message holds, with the defaults of the columns it leaves out.

    Raises:
        InputError: As for `request_from_proto`.
    """
    item = _decode("candidates.item", message.item, DType.UINT64)
    category = np.full(len(item), NO_ID, np.uint64)
    if message.HasField("category"):
        category = _decode("candidates.category", message.category, DType.UINT64, len(item))
    covers, offsets = np.empty(0, np.uint64), np.zeros(len(item) + 1, np.int64)
    if message.HasField("covers"):
        covers = _decode("candidates.covers", message.covers, DType.UINT64)
    if message.HasField("covers") or message.HasField("covers_offsets"):
        offsets = _decode("candidates.covers_offsets", message.covers_offsets, DType.INT64, len(item) + 1)
    more, more_offsets = np.empty(0, np.uint64), np.empty(0, np.int64)
    if message.HasField("more_categories") or message.HasField("more_offsets"):
        more = _decode("candidates.more_categories", message.more_categories, DType.UINT64)
        more_offsets = _decode("candidates.more_offsets", message.more_offsets, DType.INT64, len(item) + 1)
    return Candidates(
        item=item,
        category=category,
        covers=covers,
        covers_offsets=offsets,
        more_categories=more,
        more_offsets=more_offsets,
    )


def categories_from_proto(message: pb.GetAncestorsRequest) -> U64:
    """Gives the categories that a message asks about; how many is left for the searcher to judge.

    Raises:
        InputError: The column is of another type; names the field.
    """
    categories: U64 = _decode("categories", message.categories, DType.UINT64)
    return categories


def ancestors_to_proto(ancestors: Ancestors) -> pb.GetAncestorsResponse:
    """Gives the message of what stands above some categories."""
    return pb.GetAncestorsResponse(
        ancestors=_encode(ancestors.above.values),
        offsets=_encode(ancestors.above.offsets),
        store_generation=ancestors.store_generation,
    )


def result_to_proto(result: SearchResult) -> pb.SearchResponse:
    """Gives the message of a search result."""
    return pb.SearchResponse(
        behaviors=behaviors_to_proto(result.behaviors),
        vocabulary=vocabulary_to_proto(result.vocabulary),
        offsets=_encode(result.offsets),
        index=_encode(result.index),
        score=_encode(result.score),
        match_level=_encode(result.match_level),
        source=_encode(result.source),
        same_as=_encode(result.same_as),
        statistics=_statistics_to_proto(result.statistics),
        candidate_category=_encode(result.candidate_category),
        candidate_fields=_fields_to_proto(result.candidate_fields),
        user_fields=_fields_to_proto(result.user_fields),
        num_behaviors=result.num_behaviors,
        num_unknown_items=result.num_unknown_items,
        store_generation=result.store_generation,
        index_generation=result.index_generation,
        index_model=result.index_model,
        behavior_fields=_fields_to_proto(result.behavior_fields),
        names=None if result.names is None else _names_to_proto(result.names),
    )


def behaviors_to_proto(behaviors: BehaviorColumns) -> pb.Behaviors:
    """Gives the message of behaviors, in the order they come in."""
    return pb.Behaviors(
        item=_encode(behaviors.item),
        category=_encode(behaviors.category),
        timestamp_ms=_encode(behaviors.timestamp_ms),
        domain=_encode(behaviors.domain),
        action=_encode(behaviors.action),
        scene=_encode(behaviors.scene),
    )


def newest_first(behaviors: BehaviorColumns, limit: int) -> BehaviorColumns:
    """Gives the newest of some behaviors, in the reverse of their order."""
    newest = slice(-1, -limit - 1, -1)
    return BehaviorColumns(
        item=behaviors.item[newest],
        category=behaviors.category[newest],
        timestamp_ms=behaviors.timestamp_ms[newest],
        domain=behaviors.domain[newest],
        action=behaviors.action[newest],
        scene=behaviors.scene[newest],
    )


def batch_from_proto(message: pb.AppendRequest) -> EventBatch:
    """Gives the events a message holds, with the defaults of the columns it leaves out.

    Raises:
        InputError: A column of another type or length than the contract's; names the field. What is wrong with single
            events is left for the store to judge.
    """
    user = _decode("user", message.user, DType.UINT64)
    length = len(user)
    none = np.full(length, NO_ID, np.uint64)
    words = {"domains": message.domains, "actions": message.actions, "scenes": message.scenes or [""] * length}
    for name, column in words.items():
        if len(column) != length:
            raise InputError(f"{name}: expected {length} values, got {len(column)}")
    return EventBatch(
        user=user,
        item=_decode("item", message.item, DType.UINT64, length),
        category=_decode("category", message.category, DType.UINT64, length) if message.HasField("category") else none,
        timestamp_ms=_decode("timestamp_ms", message.timestamp_ms, DType.INT64, length),
        domain=words["domains"],
        action=words["actions"],
        scene=words["scenes"],
        key=_decode("event_key", message.event_key, DType.UINT64, length) if message.HasField("event_key") else none,
        fields={column.name: _event_field(column, length) for column in message.fields},
    )


def _event_field(column: pb.NamedColumn, length: int) -> U64 | F32:
    name = f"fields.{column.name}"
    values = decode_field(name, _field_message(column), length)
    if isinstance(values, Lists):
        raise InputError(f"{name}.offsets: an event has one value of a field, and no list of them")
    return values


def append_to_proto(result: AppendResult) -> pb.AppendResponse:
    """Gives the message of what became of some events."""
    return pb.AppendResponse(
        result=_encode(result.result), refusals=[result.reasons[row] for row in sorted(result.reasons)]
    )


def vocabulary_to_proto(vocabulary: Vocabulary) -> pb.Vocabulary:
    """Gives the message of a vocabulary."""
    return pb.Vocabulary(domains=vocabulary.domains, actions=vocabulary.actions, scenes=vocabulary.scenes)


def _statistics_to_proto(statistics: MatchStatistics) -> pb.MatchStatistics:
    return pb.MatchStatistics(
        streams=[pb.Stream(domain=domain, action=action) for domain, action in statistics.streams],
        num_levels=statistics.count.shape[1],
        count=_encode(statistics.count),
        age_ms=_encode(statistics.age_ms),
        total_count=_encode(statistics.total_count),
        total_age_ms=_encode(statistics.total_age_ms),
    )


def _names_to_proto(names: Names) -> pb.Names:
    return pb.Names(
        behavior_items=names.behavior_items,
        behavior_categories=names.behavior_categories,
        candidates=names.candidates,
        behavior_fields=[pb.FieldNames(field=field, values=each) for field, each in names.behavior_fields.items()],
    )


def _fields_to_proto(fields: Mapping[str, FieldColumn] | Mapping[str, U64 | F32]) -> Iterator[pb.NamedColumn]:
    for name, values in fields.items():
        field = encode_field(values)
        yield pb.NamedColumn(
            name=name,
            values=_column(field.values),
            present=field.present,
            offsets=None if field.offsets is None else _column(field.offsets),
        )


def _column(encoded: tuple[int, bytes]) -> pb.Column:
    return pb.Column(dtype=pb.DType.ValueType(encoded[0]), data=encoded[1])


def _field_message(column: pb.NamedColumn) -> FieldMessage:
    return FieldMessage(
        values=(column.values.dtype, column.values.data),
        present=column.present,
        offsets=(column.offsets.dtype, column.offsets.data) if column.HasField("offsets") else None,
    )


def _encode(array: AnyArray) -> pb.Column:
    return _column(encode_column(array))


def _decode(name: str, column: pb.Column, expected: DType, length: int | None = None) -> AnyArray:
    return decode_column(name, column.dtype, column.data, expected, length)
