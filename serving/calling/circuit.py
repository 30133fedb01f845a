"""A circuit breaker: a server that does not answer is left alone, and asked now and then whether it does again."""

from __future__ import annotations

import threading
import time
from enum import Enum
from typing import TYPE_CHECKING

from serving.errors import CircuitOpenError

if TYPE_CHECKING:
    from collections.abc import Callable

OPENS_AT = 0.5
"""Share of calls without an answer."""
LEARNS = 0.2
"""Weight of the newest call in that share: four in a row open a circuit that was well."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
"""Until the next probe: doubled with each that fails."""
TIMES_AS_LONG = 3.0
"""A call that was given less than so many times what an answer takes says nothing when it runs out of time."""


class CircuitState(Enum):
    """The value of the label `state`."""

    CLOSED = "closed"
    """Calls are made."""
    HALF_OPEN = "half_open"
    """One call is on its way to find out; no other is made."""
    OPEN = "open"
    """No call is made."""


class Circuit:
    """Says whether to call. Thread-safe. Every call that `enter` lets pass ends in one of the other methods."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state = CircuitState.CLOSED
        self._lock = threading.Lock()
        self._failing = 0.0
        self._answer_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._probe_at_s = 0.0

    @property
    def state(self) -> CircuitState:
        """The state now."""
        return self._state

    def enter(self) -> None:
        """Lets a call pass.

        Raises:
            CircuitOpenError: It is not to be made.
        """
        if self.state is not CircuitState.CLOSED and not self._may_probe():
            raise CircuitOpenError("the last calls got no answer; it is asked again within a second")

    def _may_probe(self) -> bool:
        with self._lock:
            if self._state is CircuitState.OPEN and self._clock() >= self._probe_at_s:
                self._state = CircuitState.HALF_OPEN
                return True
            return self._state is CircuitState.CLOSED

    def answered(self, took_s: float | None = None) -> None:
        """Notes an answer of any kind, a refusal too: somebody is there.

        Args:
            took_s: How long the work took; None = none was done.
        """
        with self._lock:
            if took_s is not None:
                self._answer_s += LEARNS * (took_s - self._answer_s)
            self._failing -= LEARNS * self._failing
            if self._state is not CircuitState.CLOSED:
                self._state, self._failing, self._pause_s = CircuitState.CLOSED, 0.0, FIRST_PAUSE_S

    def failed(self, given_s: float | None = None) -> None:
        """Notes that there was no answer.

        Args:
            given_s: What the call was given, when it ran out of time; None = it failed by itself.
        """
        with self._lock:
            if self._state is CircuitState.HALF_OPEN:
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                self._open()
            elif given_s is None or given_s >= TIMES_AS_LONG * self._answer_s:
                self._failing += LEARNS * (1 - self._failing)
                if self._state is CircuitState.CLOSED and self._failing > OPENS_AT:
                    self._open()

    def given_up(self) -> None:
        """Notes that a call ended before anything could be known of it."""
        with self._lock:
            if self._state is CircuitState.HALF_OPEN:
                self._open()

    def _open(self) -> None:
        self._state, self._probe_at_s = CircuitState.OPEN, self._clock() + self._pause_s
