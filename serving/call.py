"""What the edge knows of the request in hand: its id for the logs and its deadline."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from random import getrandbits
from typing import TYPE_CHECKING

from serving.deadline import Deadline
from serving.laps import Laps
from store.errors import DeadlineExceededError, InputError

if TYPE_CHECKING:
    import grpc

    from serving.siblings import Siblings

LONGEST_DEADLINE_S = 30.0
"""Given to a caller who sets none, and the most that any caller gets: a worker thread is never bound longer."""

LONGEST_REQUEST_ID = 128


@dataclass(slots=True, kw_only=True)
class Call:
    """One request being answered."""

    deadline: Deadline
    request_id: str = ""
    """Empty until the request is read."""
    caller: str = ""
    """Name of who calls: by its token or certificate, else what it calls itself, else its host; empty = refused."""
    from_worker: bool = False
    """Whether another worker of this server passed it on."""
    siblings: Siblings | None = None
    """The other workers of this server; None = there are none, or one of them asks."""
    experiment: str = ""
    """Name of the experiment that the request belongs to, of a small known set; the handler sets it. Empty = none."""
    units: float = 0.0
    """What the work turned out to cost, for methods whose cost depends on the message; the servicer says it."""
    waited_s: float = 0.0
    """Until it had a place to run."""
    laps: Laps = field(default_factory=Laps)
    """Its stages, from when it had one."""

    def check_time(self) -> None:
        """Checks, between two steps of the work, that somebody still waits for the answer.

        Raises:
            DeadlineExceededError: The deadline has passed.
        """
        if self.deadline.expired:
            raise DeadlineExceededError("the deadline of the request has passed")


CURRENT_CALL: ContextVar[Call | None] = ContextVar("CURRENT_CALL", default=None)


def current_call() -> Call:
    """Gives the request that this thread answers; only inside a handler behind the `Edge`."""
    call = CURRENT_CALL.get()
    assert call is not None, "behind the edge"
    return call


def lap(stage: str) -> None:
    """Ends a stage of the request that this thread answers; outside of a server it does nothing."""
    call = CURRENT_CALL.get()
    if call is not None:
        call.laps.lap(stage)


def deadline_of(context: grpc.ServicerContext) -> Deadline:
    """Gives the caller's deadline, at most `LONGEST_DEADLINE_S` from now."""
    remaining_s = context.time_remaining()
    return Deadline.after(LONGEST_DEADLINE_S if remaining_s is None else min(remaining_s, LONGEST_DEADLINE_S))


def request_id_of(message: object) -> str:
    """Gives the id that the caller put into a request, or into the request inside it, else a new one."""
    given = getattr(message, "request_id", None)
    if given is None:  # protobuf takes two microseconds to say that there is no such field
        given = getattr(getattr(message, "request", None), "request_id", "")
    return str(given) if given else new_request_id()


def new_request_id() -> str:
    """Gives an id for a request that came without one."""
    return f"{getrandbits(128):032x}"


def check_request_id(request_id: str) -> None:
    """Checks a request id before it goes into logs and on to the other stage.

    Raises:
        InputError: It is longer than `LONGEST_REQUEST_ID` or not printable.
    """
    if len(request_id) > LONGEST_REQUEST_ID or not request_id.isprintable():
        raise InputError(f"request_id: must be at most {LONGEST_REQUEST_ID} printable characters")
