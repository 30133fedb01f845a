"""Maps `lookback.ranking.v1` messages to the plain columns of `model_stage.types`, in both directions."""

from __future__ import annotations

import numpy as np

from model_stage.types import Contribution, ExplainedBehavior, ExplainResult, RankRequest, RankResult, Versions
from protos.lookback.ranking.v1 import ranking_pb2 as pb
from serving.wire.columns import (
    candidates_from_proto,
    decode_column,
    encode_column,
    fields_from_proto,
    put_candidates,
    put_columns,
    put_fields,
    same_fields,
)

_RESULT = ("num_behaviors", "degraded", "degraded_reason", "ancestors_reason")
_LISTS = ("missing", "search_differences")
_BEHAVIOR = tuple(ExplainedBehavior.__dataclass_fields__.keys() - {"side_info", "attention"})
_VERSIONS = tuple(Versions.__dataclass_fields__)


def request_from_proto(message: pb.RankRequest) -> RankRequest:
    """Gives the request a message holds. Sizes, times, targets and field names are left for the ranker to judge.

    Raises:
        InputError: A column of another type or length than the contract's, a value that is not finite, offsets that
            descend, or a field named twice; the message names the field.
    """
    candidates = candidates_from_proto(message.candidates)
    return RankRequest(
        user=message.user,
        as_of_ms=message.as_of_ms,
        candidates=candidates,
        targets=tuple(message.targets),
        candidate_fields=fields_from_proto("candidate", message.candidate_fields, len(candidates)),
        user_fields=fields_from_proto("user", message.user_fields, 1),
        context_fields=fields_from_proto("context", message.context_fields, 1),
        experiment=message.experiment,
    )


def request_from_bytes(data: bytes) -> RankRequest:
    """Gives the request that a serialised message holds; errors as `request_from_proto`."""
    return request_from_proto(pb.RankRequest.FromString(data))


def request_to_proto(request: RankRequest, request_id: str = "") -> pb.RankRequest:
    """Gives the message of a request."""
    message = pb.RankRequest()
    put_request(message, request, request_id)
    return message


def put_request(message: pb.RankRequest, request: RankRequest, request_id: str) -> None:
    """Writes a request into its message."""
    message.user = request.user
    message.as_of_ms = request.as_of_ms
    message.request_id = request_id
    message.experiment = request.experiment
    message.targets.extend(request.targets)
    put_candidates(message.candidates, request.candidates)
    put_fields(message.candidate_fields, request.candidate_fields)
    put_fields(message.user_fields, request.user_fields)
    put_fields(message.context_fields, request.context_fields)


def result_to_proto(result: RankResult) -> pb.RankResponse:
    """Gives the message of a ranking."""
    message = pb.RankResponse(
        targets=result.targets, versions=_versions_to_proto(result.versions), **same_fields(result, (*_RESULT, *_LISTS))
    )
    put_columns(message, result, ("probability", "num_retrieved"))
    return message


def result_from_proto(message: pb.RankResponse) -> RankResult:
    """Gives the ranking a message holds.

    Raises:
        InputError: The message breaks the contract; names the field.
    """
    num_retrieved = decode_column("num_retrieved", message.num_retrieved, np.uint32)
    shape = (len(num_retrieved), len(message.targets))
    return RankResult(
        targets=tuple(message.targets),
        missing=tuple(message.missing),
        search_differences=tuple(message.search_differences),
        probability=decode_column("probability", message.probability, np.float32, shape[0] * shape[1]).reshape(shape),
        num_retrieved=num_retrieved,
        versions=_versions_from_proto(message.versions),
        **same_fields(message, _RESULT),
    )


def explanation_to_proto(result: ExplainResult) -> pb.ExplainResponse:
    """Gives the message of an explanation; its floats travel as float32."""
    return pb.ExplainResponse(
        targets=result.targets,
        probability=encode_column(np.array(result.probability, np.float32)),
        behaviors=[
            pb.ExplainedBehavior(
                **same_fields(behavior, (*_BEHAVIOR, "attention")),
                side_info=[_side_info_to_proto(field, value) for field, value in behavior.side_info.items()],
            )
            for behavior in result.behaviors
        ],
        versions=_versions_to_proto(result.versions),
        candidate_name=result.candidate_name,
        logit=encode_column(np.array(result.logit, np.float32)),
        contributions=[pb.Contribution(part=each.part, logit=each.logit) for each in result.contributions],
        ancestors_reason=result.ancestors_reason,
        **same_fields(result, _LISTS),
    )


def explanation_from_proto(message: pb.ExplainResponse) -> ExplainResult:
    """Gives the explanation a message holds.

    Raises:
        InputError: The message breaks the contract; names the field.
    """
    probability = decode_column("probability", message.probability, np.float32, len(message.targets))
    logit = np.empty(0, np.float32)  # what a service of an earlier version says of it
    if message.HasField("logit"):
        logit = decode_column("logit", message.logit, np.float32, len(message.targets))
    return ExplainResult(
        candidate_name=message.candidate_name,
        targets=tuple(message.targets),
        probability=tuple(probability.tolist()),
        logit=tuple(logit.tolist()),
        contributions=tuple(Contribution(part=each.part, logit=tuple(each.logit)) for each in message.contributions),
        behaviors=tuple(_behavior_from_proto(behavior) for behavior in message.behaviors),
        versions=_versions_from_proto(message.versions),
        ancestors_reason=message.ancestors_reason,
        missing=tuple(message.missing),
        search_differences=tuple(message.search_differences),
    )


def _side_info_to_proto(field: str, value: str | float | None) -> pb.SideInfo:
    if value is None:
        return pb.SideInfo(field=field)
    return pb.SideInfo(field=field, text=value) if isinstance(value, str) else pb.SideInfo(field=field, number=value)


def _side_info_from_proto(message: pb.SideInfo) -> str | float | None:
    if message.HasField("text"):
        return message.text
    return message.number if message.HasField("number") else None


def _behavior_from_proto(message: pb.ExplainedBehavior) -> ExplainedBehavior:
    return ExplainedBehavior(
        **same_fields(message, _BEHAVIOR),
        side_info={each.field: _side_info_from_proto(each) for each in message.side_info},
        attention=tuple(message.attention),
    )


def _versions_to_proto(versions: Versions) -> pb.Versions:
    return pb.Versions(**same_fields(versions, _VERSIONS))


def _versions_from_proto(message: pb.Versions) -> Versions:
    return Versions(**same_fields(message, _VERSIONS))
