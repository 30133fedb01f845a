"""Errors of the serving edge, by who must act.

StoreError
`-- ServingError
    |-- OverloadedError    transient: the server cannot answer in time; says when to come again
    |-- CircuitOpenError   transient: the last calls got no answer, so that this one was not made
    |-- ClientClosedError  the programmer: a client is used after it was closed
    |-- UnreadableAnswerError  the operator: a server answers what breaks the contract
    |-- CallerGoneError    nobody: the caller has cancelled the call
    |-- DrainingError      transient: the server is going away; another one answers
    |-- CallerLimitError   the caller: it has as many calls under way as it may; says when to come again
    |-- UnauthenticatedError   the caller: it does not show who it is
    |-- ForbiddenError     the caller: it is known, and may not do this
    |-- NotOfferedError    the caller: this server was not started to do this
    `-- RelayedError       as its status says: what another worker answered
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from store.errors import StoreError

if TYPE_CHECKING:
    from grpc import StatusCode

Refusal = Literal["deadline", "queue_full", "server_full"]


class ServingError(StoreError):
    """Root of the errors that the serving edge raises itself."""


class OverloadedError(ServingError):
    """The request cannot be answered within its deadline, or as many wait or came at once as the server takes."""

    def __init__(self, retry_after_ms: int, reason: Refusal) -> None:
        super().__init__(f"the server is full ({reason}); try again in {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms
        """By then all that wait now have had their turn."""
        self.reason = reason


class CallerGoneError(ServingError):
    """The caller has cancelled the call, so that nobody waits for an answer."""


class CircuitOpenError(ServingError):
    """A client does not call a server that has not answered lately; it looks again within a second."""


class CallerLimitError(ServingError):
    """A caller has as many calls under way as its token allows."""

    reason = "caller_limit"

    def __init__(self, limit: int, retry_after_ms: int) -> None:
        super().__init__(f"{limit} calls of this caller are under way, and no more are allowed to it at once")
        self.retry_after_ms = retry_after_ms


class UnauthenticatedError(ServingError):
    """A call came without a token, or with one that does not count."""

    def __init__(self, reason: str, message: str) -> None:
        """Keeps why, in one word for a metric, beside what the caller is told."""
        super().__init__(message)
        self.reason = reason


class ForbiddenError(ServingError):
    """The caller's token does not have the role that a method needs."""


class ClientClosedError(ServingError):
    """A client is used after it was closed."""


class UnreadableAnswerError(ServingError):
    """A server answered what breaks the contract; the message names the field."""


class DrainingError(ServingError):
    """The server finishes what it has and takes nothing new."""

    reason = "draining"


class NotOfferedError(ServingError):
    """The method is part of the contract, and this server was not started to offer it."""


class RelayedError(ServingError):
    """Another worker refused a call that was passed on to it, or does not answer."""

    def __init__(self, code: StatusCode, details: str, metadata: tuple[tuple[str, str | bytes], ...] = ()) -> None:
        super().__init__(details)
        self.code = code
        self.metadata = metadata
        """Trailing metadata that the other worker's caller is to see."""
