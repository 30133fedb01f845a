"""A request's deadline as a value: made once at the edge, passed on, asked how much time is left."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on this process' monotonic clock. It means nothing in another process: send `remaining_s()` there."""

    at_s: float
    """Seconds of `time.monotonic`."""

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Gives the deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        """Gives the seconds left, 0 when spent."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the time is spent."""
        return time.monotonic() >= self.at_s

    def less(self, reserve_s: float) -> Deadline:
        """Gives an earlier deadline for a part of the work, that leaves `reserve_s` seconds for what comes after it."""
        return Deadline(self.at_s - reserve_s)
