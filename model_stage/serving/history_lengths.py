"""How long the histories of recent users are, so that a request's cost is known before search is asked."""

from __future__ import annotations

import threading

MOST_USERS = 10_000


class HistoryLengths:
    """What search said last of some users; the ones asked for first are forgotten first. Thread-safe."""

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}
        self._mean = 0.0
        self._lock = threading.Lock()

    def keep(self, user: int, num_behaviors: int) -> None:
        """Notes the length of a user's history."""
        with self._lock:
            if user not in self._lengths and len(self._lengths) >= MOST_USERS:
                self._lengths.pop(next(iter(self._lengths)))
            self._lengths[user] = num_behaviors
            self._mean += 0.01 * (num_behaviors - self._mean)

    def of(self, user: int) -> int:
        """Gives the length of a user's history; of an unknown user that of an average request."""
        return self._lengths.get(user, round(self._mean))
