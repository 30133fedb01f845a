"""Who may work now: a bound on running requests, a bound on waiting ones, and a door that closes for good."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from serving.errors import DrainingError, OverloadedError
from store.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from serving.deadline import Deadline

RETRY_AFTER_MS = 100


class Admission:
    """Lets at most `max_running` requests work at once and at most `max_waiting` wait, in the order they came.

    Thread-safe.
    Waiting ends with the request's own deadline, so a queue never holds work whose caller has given up.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._running = 0
        self._queue: deque[object] = deque()
        self._attending = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def inside(self) -> int:
        """Number of requests that run or wait."""
        with self._changed:
            return self._running + len(self._queue) + self._attending

    @contextmanager
    def attend(self) -> Iterator[None]:
        """Counts an operator's call for the time of the block; it takes no place and never waits.

        Raises:
            DrainingError: The door was closed before the call came.
        """
        with self._changed:
            self._check_open()
            self._attending += 1
        try:
            yield
        finally:
            with self._changed:
                self._attending -= 1
                self._changed.notify_all()

    def enter(self, deadline: Deadline) -> AbstractContextManager[None]:
        """Holds a place for the time of the block, waiting for one first.

        Raises:
            DrainingError: The door was closed before the request came.
            OverloadedError: All places to run and to wait are taken.
            DeadlineExceededError: The deadline passed while waiting.
        """
        return _Place(self, deadline)

    def leave(self) -> None:
        """Gives a place back."""
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise DrainingError("the server is shutting down; ask another one")

    def take_place(self, deadline: Deadline) -> None:
        """Takes a place as `enter` does, for who gives it back with `leave`."""
        with self._changed:
            self._check_open()
            if self._queue or self._running >= self._max_running:
                if len(self._queue) >= self._max_waiting:
                    raise OverloadedError(RETRY_AFTER_MS)
                self._wait_turn(deadline)
            self._running += 1

    def _wait_turn(self, deadline: Deadline) -> None:
        ticket = object()
        self._queue.append(ticket)
        try:
            while self._queue[0] is not ticket or self._running >= self._max_running:
                if not self._changed.wait(deadline.remaining_s()) and deadline.expired:
                    raise DeadlineExceededError("the deadline of the request passed while it waited for its turn")
        finally:
            self._queue.remove(ticket)
            self._changed.notify_all()

    def close(self) -> None:
        """Refuses new requests from now on; those running or waiting still get their answer."""
        with self._changed:
            self._closed = True

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Waits until no request is running or waiting; False when the time was not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running + len(self._queue) + self._attending == 0, timeout_s)


class _Place:
    """What `Admission.enter` gives; for every request, so no generator."""

    __slots__ = ("_admission", "_deadline")

    def __init__(self, admission: Admission, deadline: Deadline) -> None:
        self._admission = admission
        self._deadline = deadline

    def __enter__(self) -> None:
        self._admission.take_place(self._deadline)

    def __exit__(self, *_: object) -> None:
        self._admission.leave()
