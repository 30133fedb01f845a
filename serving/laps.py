"""Where the time of one request goes: its stages, in the order in which they ended."""

from __future__ import annotations

import time
from typing import NamedTuple


class Lap(NamedTuple):
    """One stage of a request; points of `time.monotonic`."""

    stage: str
    start_s: float
    end_s: float


class Laps:
    """Takes the time of the stages of one request, which follow one another. For one thread at a time."""

    __slots__ = ("_ends", "_start_s")

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self._ends: list[tuple[str, float]] = []

    def lap(self, stage: str) -> None:
        """Ends a stage: what has passed since the one before was this one."""
        self._ends.append((stage, time.monotonic()))

    def all(self) -> list[Lap]:
        """Gives the stages that have ended."""
        starts = (self._start_s, *(end_s for _, end_s in self._ends))
        return [Lap(stage, start_s, end_s) for (stage, end_s), start_s in zip(self._ends, starts, strict=False)]

    def seconds(self) -> dict[str, float]:
        """Gives how long each stage took; one that ended twice counts both times."""
        found: dict[str, float] = {}
        for stage, start_s, end_s in self.all():
            found[stage] = found.get(stage, 0.0) + end_s - start_s
        return found
