"""Who may work now: a bound on running requests, a line of those that can still be answered in time, and a door."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, Self

from serving.errors import DrainingError, OverloadedError
from serving.server.line import Line, Ticket
from serving.server.pace import LEARNS, Kind
from store.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from serving.deadline import Deadline
    from serving.errors import Refusal

ANY = Kind()
"""For who says nothing of his work; nothing is learned of it."""
GOING = "the server is shutting down; ask another one"
LEAST_RETRY_MS = 5
"""A caller that comes again sooner finds the same line."""


class Demand(NamedTuple):
    """What is asked of a request only if it has to wait."""

    units: float
    """What it costs: see `serving.server.pace`."""
    caller: str
    """Who is to have his share."""


def _no_demand() -> Demand:
    return Demand(0.0, "")


@dataclass(slots=True, eq=False, kw_only=True)
class _Waiting(Ticket):
    """A ticket, and the thread that holds it."""

    answered: threading.Lock = field(default_factory=threading.Lock)
    """Taken until there is an answer. A lock for each, so that one thread wakes and not all."""
    is_called: bool = False
    refusal: OverloadedError | None = None


class Admission:
    """Lets at most `max_running` requests work at once, and those wait that can still be answered in time.

    Thread-safe. What a request will take is estimated from its kind and its units. Who cannot be served before his
    deadline is refused at once, with the time after which to come again: when he comes, or when somebody more urgent
    comes before him. At most `max_waiting` wait. The order of the line: `serving.server.line`.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._max_running = max_running
        self._line = Line(max_running, max_waiting)
        self._running = 0
        self._mean_s = 0.0
        """What a request takes, of whatever kind."""
        self._attending = 0
        self._closed = False
        self._lock = threading.Lock()
        self._emptied = threading.Condition(self._lock)

    @property
    def inside(self) -> int:
        """Number of requests that run or wait."""
        with self._lock:
            return self._inside()

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._line)

    @contextmanager
    def attend(self) -> Iterator[None]:
        """Counts an operator's call for the time of the block; it takes no place and never waits.

        Raises:
            DrainingError: The door was closed before the call came.
        """
        with self._lock:
            if self._closed:
                raise DrainingError(GOING)
            self._attending += 1
        try:
            yield
        finally:
            with self._lock:
                self._attending -= 1
                self._tell_if_empty()

    def enter(self, deadline: Deadline, kind: Kind = ANY, demand: Callable[[], Demand] = _no_demand) -> Place:
        """Holds a place for the time of the block, waiting for one first.

        Args:
            deadline: Of the request.
            kind: Kind of work.
            demand: Asked only if there is no place: it may look into the message.

        Raises:
            DrainingError: The door was closed before the request came.
            OverloadedError: It cannot be answered in time, or as many wait as may.
            DeadlineExceededError: The deadline passed while waiting.
        """
        return Place(self, deadline, kind, demand)

    def refusal(self) -> OverloadedError | DrainingError:
        """Gives what to say to whom not even a look is given, so many have come at once."""
        with self._lock:
            return DrainingError(GOING) if self._closed else self._overloaded("server_full")

    def close(self) -> None:
        """Refuses new requests from now on; those running or waiting still get their answer."""
        with self._lock:
            self._closed = True

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Waits until no request is running or waiting; False when the time was not enough."""
        with self._lock:
            return self._emptied.wait_for(lambda: self._inside() == 0, timeout_s)

    def take(self, place: Place) -> None:
        """Takes a place as `enter` does, for who gives it back with `give_back`."""
        if self._takes_free_place():
            return
        demand = place.demand()  # not under the lock: it may read the store
        now_s = time.monotonic()
        ticket = _Waiting(
            priority=place.kind.priority,
            deadline_s=place.deadline.at_s,
            arrived_s=now_s,
            cost_s=place.kind.pace.seconds(demand.units),
            caller=demand.caller,
        )
        ticket.answered.acquire()
        if self._takes_free_place(ticket, now_s):
            return
        ticket.answered.acquire(timeout=place.deadline.remaining_s())
        place.waited_s = time.monotonic() - now_s
        self._check_called(ticket)

    def give_back(self, place: Place) -> None:
        """Gives a place to whose turn it is, and takes in what the work took."""
        now_s = time.monotonic()
        with self._lock:
            took_s = now_s - place.started_s
            self._mean_s += LEARNS * (took_s - self._mean_s)
            if place.units:
                place.kind.pace.learn(place.units, took_s)
            ticket, late = self._line.next(now_s)
            self._refuse(late, "deadline")
            if ticket is None:
                self._running -= 1
                self._tell_if_empty()
            else:
                assert isinstance(ticket, _Waiting)
                ticket.is_called = True
                ticket.answered.release()

    def _takes_free_place(self, ticket: _Waiting | None = None, now_s: float = 0.0) -> bool:
        """Takes a place if there is one; else puts the ticket, if there is one, into the line."""
        with self._lock:
            if self._closed:
                raise DrainingError(GOING)
            if self._running < self._max_running:
                self._running += 1
                return True
            if ticket is not None:
                self._refuse(self._line.join(ticket, now_s, self._mean_s), "deadline")
                self._refuse(self._line.surplus(), "queue_full")
            return False

    def _refuse(self, tickets: Iterable[Ticket], reason: Refusal) -> None:
        for ticket in tickets:
            assert isinstance(ticket, _Waiting)
            ticket.refusal = self._overloaded(reason)
            ticket.answered.release()

    def _overloaded(self, reason: Refusal) -> OverloadedError:
        return OverloadedError(max(LEAST_RETRY_MS, ceil(1000 * self._line.wait_s(self._mean_s))), reason)

    def _check_called(self, ticket: _Waiting) -> None:
        with self._lock:
            if ticket.is_called:
                return
            if ticket.refusal is None:
                self._line.leave(ticket)
                self._tell_if_empty()
                raise DeadlineExceededError("the deadline of the request passed while it waited for its turn")
        raise ticket.refusal

    def _inside(self) -> int:
        return self._running + len(self._line) + self._attending

    def _tell_if_empty(self) -> None:
        if self._inside() == 0:
            self._emptied.notify_all()


class Place:
    """What `Admission.enter` gives; for every request, so no generator."""

    __slots__ = ("_admission", "deadline", "demand", "kind", "started_s", "units", "waited_s")

    def __init__(self, admission: Admission, deadline: Deadline, kind: Kind, demand: Callable[[], Demand]) -> None:
        self._admission = admission
        self.deadline = deadline
        self.kind = kind
        self.demand = demand
        self.started_s = 0.0
        """When the work began, point of `time.monotonic`."""
        self.units = 0.0
        """What the work turned out to cost; 0 = nothing is to be learned of it."""
        self.waited_s = 0.0

    def __enter__(self) -> Self:
        self._admission.take(self)
        self.started_s = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.give_back(self)
