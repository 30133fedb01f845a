"""What was done to a store, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(slots=True)
class Tally:
    """The counts of one test."""

    name: str
    runs: int = 0
    injected: int = 0
    """Faults that did strike: a process that was done before it was to be killed does not count."""
    lost: int = 0
    """Acknowledged events that were not there afterwards."""
    corrupt: int = 0
    """Answers that were wrong without an error: events invented, altered, doubled or of somebody else; and crashes."""
    note: str = ""

    def __iadd__(self, other: Tally) -> Self:
        self.runs += other.runs
        self.injected += other.injected
        self.lost += other.lost
        self.corrupt += other.corrupt
        return self

    def check(self) -> None:
        """Fails the test if anything was lost or corrupt."""
        assert (self.lost, self.corrupt) == (0, 0), str(self)
