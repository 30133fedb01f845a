"""How often a client may try again: a share of its calls, so that retries cannot make an overload worse."""

from __future__ import annotations

import threading

SHARE = 0.1
"""Of the calls: all tries together are at most 1.1 times the calls."""
MOST_SAVED = 10.0
"""Retries that a long good time allows at once."""


class RetryBudget:
    """Tokens: a call brings a tenth of one, a retry takes one. Thread-safe."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Notes a call."""
        with self._lock:
            self._tokens = min(MOST_SAVED, self._tokens + SHARE)

    def spend(self) -> bool:
        """Takes a retry, if there is one."""
        with self._lock:
            if self._tokens < 1.0 - 1e-9:  # ten tenths are one
                return False
            self._tokens -= 1.0
            return True
