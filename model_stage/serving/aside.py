"""Work beside the answers: one thread, a bounded queue before it, and what does not fit is turned away at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
PAUSE_S = 0.5
"""Between two looks at the queue: nobody who answers a request wakes the thread, unless the queue is half full."""
PATIENCE_S = 10.0
"""What the work gets to end once it is told to."""


class Aside(Generic[T]):
    """Hands what it is given to a thread of its own, some at a time. Thread-safe.

    Args:
        name: Of the thread.
        work: Gets what came since the last call, perhaps nothing, and whether this is the last call. Must not raise.
        most: Things that may wait.
        most_bytes: What they may weigh together.
    """

    def __init__(self, name: str, work: Callable[[list[T], bool], None], *, most: int, most_bytes: int) -> None:
        self._work = work
        self._most, self._most_bytes = most, most_bytes
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._bytes = 0
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, thing: T, size_bytes: int) -> bool:
        """Leaves something to be worked on; False when there is no room for it. Never waits for the work."""
        with self._changed:
            if self._ended or len(self._waiting) >= self._most or self._bytes + size_bytes > self._most_bytes:
                return False
            self._waiting.append(thing)
            self._bytes += size_bytes
            if len(self._waiting) * 2 >= self._most or self._bytes * 2 >= self._most_bytes:
                self._changed.notify()
        return True

    def close(self) -> bool:
        """Has what waits worked on, and ends; False if that took too long. Closing again does nothing."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(PATIENCE_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        ended = False
        while not ended:
            with self._changed:
                if not self._ended and len(self._waiting) * 2 < self._most:
                    self._changed.wait(PAUSE_S)
                things, self._waiting, self._bytes, ended = self._waiting, [], 0, self._ended
            self._work(things, ended)


class Sampler:
    """Chooses a share of requests by their ids: the same ones in every process and at every try.

    Args:
        share: 0 to 1.
        seed: Samples of different seeds have nothing to do with one another.
    """

    def __init__(self, share: float, seed: int) -> None:
        self._below = round(share * 2**64)
        self._seed = seed

    def takes(self, request_id: str) -> bool:
        """Says whether a request is one of them."""
        return xxhash.xxh3_64_intdigest(request_id.encode(), self._seed) < self._below
