"""Maps `lookback.ranking.v1` messages to the plain columns of `model_stage.types`, in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_stage.types import Contribution, ExplainedBehavior, ExplainResult, RankRequest, RankResult, Versions
from protos.lookback.ranking.v1 import ranking_pb2 as pb
from serving.wire.columns import DType, FieldMessage, decode_column, decode_field, encode_column, encode_field
from store.errors import InputError
from store.retrieval import Candidates
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from store.lists import FieldColumn
    from store.types import AnyArray


def request_from_proto(message: pb.RankRequest) -> RankRequest:
    """Gives the request a message holds. Sizes, times, targets and field names are left for the ranker to judge.

    Raises:
        InputError: A column of another type or length than the contract's, a value that is not finite, offsets that
            descend, or a field named twice; the message names the field.
    """
    candidates = _candidates_from_proto(message.candidates)
    return RankRequest(
        user=message.user,
        as_of_ms=message.as_of_ms,
        candidates=candidates,
        targets=tuple(message.targets),
        candidate_fields=_fields_from_proto("candidates.fields", message.candidates.fields, len(candidates)),
        user_fields=_fields_from_proto("user_fields", message.user_fields, 1),
        context_fields=_fields_from_proto("context_fields", message.context_fields, 1),
    )


def request_to_proto(request: RankRequest, request_id: str = "") -> pb.RankRequest:
    """Gives the message of a request."""
    candidates = request.candidates
    has_more = len(candidates.more_offsets) > 0
    return pb.RankRequest(
        user=request.user,
        as_of_ms=request.as_of_ms,
        candidates=pb.Candidates(
            item=_encode(candidates.item),
            category=_encode(candidates.category),
            covers=_encode(candidates.covers),
            covers_offsets=_encode(candidates.covers_offsets),
            fields=_fields_to_proto(request.candidate_fields),
            more_categories=_encode(candidates.more_categories) if has_more else None,
            more_offsets=_encode(candidates.more_offsets) if has_more else None,
        ),
        targets=request.targets,
        user_fields=_fields_to_proto(request.user_fields),
        context_fields=_fields_to_proto(request.context_fields),
        request_id=request_id,
    )


def result_to_proto(result: RankResult) -> pb.RankResponse:
    """Gives the message of a ranking."""
    return pb.RankResponse(
        targets=result.targets,
        probability=_encode(result.probability),
        num_retrieved=_encode(result.num_retrieved),
        num_behaviors=result.num_behaviors,
        degraded=result.degraded,
        degraded_reason=result.degraded_reason,
        versions=_versions_to_proto(result.versions),
        ancestors_reason=result.ancestors_reason,
    )


def result_from_proto(message: pb.RankResponse) -> RankResult:
    """Gives the ranking a message holds.

    Raises:
        InputError: The message breaks the contract; names the field.
    """
    num_retrieved = _decode("num_retrieved", message.num_retrieved, DType.UINT32)
    shape = (len(num_retrieved), len(message.targets))
    return RankResult(
        targets=tuple(message.targets),
        probability=_decode("probability", message.probability, DType.FLOAT32, shape[0] * shape[1]).reshape(shape),
        num_retrieved=num_retrieved,
        num_behaviors=message.num_behaviors,
        degraded=message.degraded,
        degraded_reason=message.degraded_reason,
        versions=_versions_from_proto(message.versions),
        ancestors_reason=message.ancestors_reason,
    )


def explanation_to_proto(result: ExplainResult) -> pb.ExplainResponse:
    """Gives the message of an explanation; its floats travel as float32."""
    return pb.ExplainResponse(
        targets=result.targets,
        probability=_encode(np.array(result.probability, np.float32)),
        behaviors=[
            pb.ExplainedBehavior(
                item=behavior.item,
                category=behavior.category,
                timestamp_ms=behavior.timestamp_ms,
                domain=behavior.domain,
                action=behavior.action,
                match_level=behavior.match_level,
                source=behavior.source,
                score=behavior.score,
                attention=behavior.attention,
                item_name=behavior.item_name,
                category_name=behavior.category_name,
                scene=behavior.scene,
                side_info=[_side_info_to_proto(field, value) for field, value in behavior.side_info.items()],
            )
            for behavior in result.behaviors
        ],
        versions=_versions_to_proto(result.versions),
        candidate_name=result.candidate_name,
        logit=_encode(np.array(result.logit, np.float32)),
        contributions=[pb.Contribution(part=each.part, logit=each.logit) for each in result.contributions],
        ancestors_reason=result.ancestors_reason,
    )


def explanation_from_proto(message: pb.ExplainResponse) -> ExplainResult:
    """Gives the explanation a message holds.

    Raises:
        InputError: The message breaks the contract; names the field.
    """
    probability = _decode("probability", message.probability, DType.FLOAT32, len(message.targets))
    logit = np.empty(0, np.float32)  # what a service of an earlier version says of it
    if message.HasField("logit"):
        logit = _decode("logit", message.logit, DType.FLOAT32, len(message.targets))
    return ExplainResult(
        candidate_name=message.candidate_name,
        targets=tuple(message.targets),
        probability=tuple(probability.tolist()),
        logit=tuple(logit.tolist()),
        contributions=tuple(Contribution(part=each.part, logit=tuple(each.logit)) for each in message.contributions),
        behaviors=tuple(_behavior_from_proto(behavior) for behavior in message.behaviors),
        versions=_versions_from_proto(message.versions),
        ancestors_reason=message.ancestors_reason,
    )


def _side_info_to_proto(field: str, value: str | float | None) -> pb.SideInfo:
    match value:
        case None:
            return pb.SideInfo(field=field)
        case str():
            return pb.SideInfo(field=field, text=value)
        case _:
            return pb.SideInfo(field=field, number=value)


def _side_info_from_proto(message: pb.SideInfo) -> str | float | None:
    if message.HasField("text"):
        return message.text
    return message.number if message.HasField("number") else None


def _behavior_from_proto(message: pb.ExplainedBehavior) -> ExplainedBehavior:
    return ExplainedBehavior(
        item=message.item,
        item_name=message.item_name,
        category=message.category,
        category_name=message.category_name,
        timestamp_ms=message.timestamp_ms,
        domain=message.domain,
        action=message.action,
        match_level=message.match_level,
        source=message.source,
        score=message.score,
        scene=message.scene,
        side_info={each.field: _side_info_from_proto(each) for each in message.side_info},
        attention=tuple(message.attention),
    )


def _candidates_from_proto(message: pb.Candidates) -> Candidates:
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


def _versions_to_proto(versions: Versions) -> pb.Versions:
    return pb.Versions(
        bundle=versions.bundle,
        store_generation=versions.store_generation,
        index_generation=versions.index_generation,
        index_model=versions.index_model,
    )


def _versions_from_proto(message: pb.Versions) -> Versions:
    return Versions(
        bundle=message.bundle,
        store_generation=message.store_generation,
        index_generation=message.index_generation,
        index_model=message.index_model,
    )


def _fields_to_proto(fields: Mapping[str, FieldColumn]) -> Iterator[pb.NamedColumn]:
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


def _fields_from_proto(where: str, columns: Iterable[pb.NamedColumn], length: int) -> dict[str, FieldColumn]:
    fields: dict[str, FieldColumn] = {}
    for column in columns:
        name = f"{where}[{column.name!r}]"
        if column.name in fields:
            raise InputError(f"{name}: is given twice")
        fields[column.name] = decode_field(name, _field_message(column), length)
    return fields


def _encode(array: AnyArray) -> pb.Column:
    return _column(encode_column(array))


def _decode(name: str, column: pb.Column, expected: DType, length: int | None = None) -> AnyArray:
    return decode_column(name, column.dtype, column.data, expected, length)
