"""Messages of `Append`, of `lookback.search.v1`, both ways."""

from __future__ import annotations

import numpy as np

from protos.lookback.search.v1 import search_pb2 as pb
from serving.wire.columns import decode_column, encode_column, fields_from_proto, put_fields
from store.delta.batch import REFUSED, AppendResult
from store.errors import InputError
from store.events import EventBatch
from store.types import NO_ID


def batch_to_proto(batch: EventBatch) -> pb.AppendRequest:
    """Gives the message of some events; names of ids and rows known to be bad do not travel."""
    message = pb.AppendRequest(
        user=encode_column(batch.user),
        item=encode_column(batch.item),
        category=encode_column(batch.category),
        timestamp_ms=encode_column(batch.timestamp_ms),
        domains=batch.domain,
        actions=batch.action,
        scenes=batch.scene,
        event_key=encode_column(batch.key),
    )
    put_fields(message.fields, batch.fields)
    return message


def batch_from_proto(message: pb.AppendRequest) -> EventBatch:
    """Gives the events a message holds, with the defaults of the columns it leaves out.

    Raises:
        InputError: A column of another type or length than the contract's; names the field. What is wrong with single
            events is left for the store to judge.
    """
    user = decode_column("user", message.user, np.uint64)
    length = len(user)
    none = np.full(length, NO_ID, np.uint64)
    words = {"domains": message.domains, "actions": message.actions, "scenes": message.scenes or [""] * length}
    for name, column in words.items():
        if len(column) != length:
            raise InputError(f"{name}: expected {length} values, got {len(column)}")
    keyed, placed = message.HasField("event_key"), message.HasField("category")
    return EventBatch(
        user=user,
        item=decode_column("item", message.item, np.uint64, length),
        category=decode_column("category", message.category, np.uint64, length) if placed else none,
        timestamp_ms=decode_column("timestamp_ms", message.timestamp_ms, np.int64, length),
        domain=words["domains"],
        action=words["actions"],
        scene=words["scenes"],
        key=decode_column("event_key", message.event_key, np.uint64, length) if keyed else none,
        fields=fields_from_proto("event", message.fields, length, lists=False),
    )


def append_to_proto(result: AppendResult) -> pb.AppendResponse:
    """Gives the message of what became of some events."""
    return pb.AppendResponse(
        result=encode_column(result.result), refusals=[result.reasons[row] for row in sorted(result.reasons)]
    )


def append_from_proto(message: pb.AppendResponse, num_events: int) -> AppendResult:
    """Gives what became of some events; how far the delta is then does not travel, and is 0.

    Raises:
        InputError: Not one result for each event, or not one reason for each refusal.
    """
    result = decode_column("result", message.result, np.uint8, num_events)
    refused = np.flatnonzero(result == REFUSED).tolist()
    if len(refused) != len(message.refusals):
        raise InputError(f"refusals: expected {len(refused)} reasons, got {len(message.refusals)}")
    return AppendResult(result=result, reasons=dict(zip(refused, message.refusals, strict=True)), sequence=0)
