"""From exception to gRPC status: one table a service, and nothing inner on the wire.

| raised by the store or the edge | status | text on the wire |
|---|---|---|
| InputError, FieldError, TooManyBadRowsError | INVALID_ARGUMENT | the message, which names the field |
| MissingGenerationError, OutdatedGenerationError | FAILED_PRECONDITION | the message (what to run) |
| CorruptGenerationError, GenerationError | FAILED_PRECONDITION | the message (what to run) |
| CorruptRecordError | DATA_LOSS | the request id |
| StoreClosedError | UNAVAILABLE | the request id |
| LockedError | FAILED_PRECONDITION | the request id |
| MapFullError | RESOURCE_EXHAUSTED | the request id |
| StoreIOError, StoreError | INTERNAL | the request id |
| OverloadedError | RESOURCE_EXHAUSTED | the message; `grpc-retry-pushback-ms` says when to come again |
| CallerGoneError | CANCELLED | the message |
| CircuitOpenError, DrainingError | UNAVAILABLE | the message |
| CallerLimitError | RESOURCE_EXHAUSTED | the message; `grpc-retry-pushback-ms` says when to come again |
| UnauthenticatedError | UNAUTHENTICATED | the message |
| ForbiddenError | PERMISSION_DENIED | the message, which names the role |
| DeadlineExceededError | DEADLINE_EXCEEDED | the message |
| NotOfferedError | UNIMPLEMENTED | the message |
| RelayedError | UNAVAILABLE or what the other worker gave | the other worker's text |
| ServingError and whatever is not listed | INTERNAL | the request id |
"""

from __future__ import annotations

from dataclasses import dataclass

from grpc import StatusCode

from serving import errors as serving_errors
from store import errors as store_errors


@dataclass(frozen=True, slots=True)
class Row:
    """What one class of exceptions becomes on the wire."""

    error: type[Exception]
    code: StatusCode
    tell: bool = True
    """Whether the exception's own message goes on the wire; else only the request id does."""


COMMON_ROWS = (
    Row(store_errors.StoreError, StatusCode.INTERNAL, tell=False),
    Row(store_errors.InputError, StatusCode.INVALID_ARGUMENT),
    Row(store_errors.TooManyBadRowsError, StatusCode.INVALID_ARGUMENT),
    Row(store_errors.FieldError, StatusCode.INVALID_ARGUMENT),
    Row(store_errors.GenerationError, StatusCode.FAILED_PRECONDITION),
    Row(store_errors.MissingGenerationError, StatusCode.FAILED_PRECONDITION),
    Row(store_errors.OutdatedGenerationError, StatusCode.FAILED_PRECONDITION),
    Row(store_errors.CorruptGenerationError, StatusCode.FAILED_PRECONDITION),
    Row(store_errors.CorruptRecordError, StatusCode.DATA_LOSS, tell=False),
    Row(store_errors.StoreIOError, StatusCode.INTERNAL, tell=False),
    Row(store_errors.MapFullError, StatusCode.RESOURCE_EXHAUSTED, tell=False),
    Row(store_errors.LockedError, StatusCode.FAILED_PRECONDITION, tell=False),
    Row(store_errors.StoreClosedError, StatusCode.UNAVAILABLE, tell=False),
    Row(store_errors.DeadlineExceededError, StatusCode.DEADLINE_EXCEEDED),
    Row(serving_errors.ServingError, StatusCode.INTERNAL, tell=False),
    Row(serving_errors.OverloadedError, StatusCode.RESOURCE_EXHAUSTED),
    Row(serving_errors.CallerGoneError, StatusCode.CANCELLED),
    Row(serving_errors.CircuitOpenError, StatusCode.UNAVAILABLE),
    Row(serving_errors.CallerLimitError, StatusCode.RESOURCE_EXHAUSTED),
    Row(serving_errors.UnauthenticatedError, StatusCode.UNAUTHENTICATED),
    Row(serving_errors.ForbiddenError, StatusCode.PERMISSION_DENIED),
    Row(serving_errors.DrainingError, StatusCode.UNAVAILABLE),
    Row(serving_errors.NotOfferedError, StatusCode.UNIMPLEMENTED),
    Row(serving_errors.RelayedError, StatusCode.UNAVAILABLE),
)


class StatusTable:
    """The rows of one service, looked up by the nearest class that an exception descends from."""

    def __init__(self, *rows: Row) -> None:
        self.rows = {row.error: row for row in (*COMMON_ROWS, *rows)}

    def row(self, error: Exception) -> Row:
        """Gives the row of an exception; INTERNAL without text when there is none."""
        if isinstance(error, serving_errors.RelayedError):
            return Row(type(error), error.code)
        for kind in type(error).__mro__:
            if kind in self.rows:
                return self.rows[kind]
        return Row(type(error), StatusCode.INTERNAL, tell=False)

    def details(self, error: Exception, request_id: str) -> str:
        """Gives the text that goes on the wire for an exception."""
        row = self.row(error)
        return str(error) if row.tell else f"the request failed inside the server; see its log for {request_id}"
