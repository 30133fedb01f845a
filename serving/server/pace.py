"""What a request will cost, known before its work starts: its size gives units, what was done the time of a unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

LEARNS = 0.05
"""Share of the newest request in what is learned: some 20 requests make a new mean."""
FIXED_UNITS = 200.0
BEHAVIORS_A_UNIT = 15_000.0
"""A candidate is one unit, and one more for so many behaviors of the user; a request has the fixed ones besides.
Source: how long a search and a ranking take, by candidates and length of history, in the reports of docs/bench."""


class Priority(IntEnum):
    """Whose turn it is before whose: all of a lower number before any of a higher one."""

    SERVE = 0
    """An ad is to be shown, or an event is to be kept."""
    EXPLAIN = 1
    """A person looks at one ranking."""
    READ = 2
    """A job reads a history."""


def request_units(num_candidates: int, num_behaviors: int) -> float:
    """Gives the units of one request for some candidates of a user with so many behaviors."""
    return FIXED_UNITS + num_candidates * (1.0 + num_behaviors / BEHAVIORS_A_UNIT)


class Pace:
    """Seconds that a unit of one kind of work takes, while as many run as may. Not thread-safe."""

    __slots__ = ("mean_s", "mean_units")

    def __init__(self) -> None:
        self.mean_s = 0.0
        """Of a request; 0 = nothing is known yet."""
        self.mean_units = 0.0

    def learn(self, units: float, seconds: float) -> None:
        """Takes in what one request took; `units` is above 0."""
        # Means of both and not of their ratio: a small request that was held up says little about large ones.
        share = LEARNS if self.mean_s else 1.0
        self.mean_s += share * (seconds - self.mean_s)
        self.mean_units += share * (units - self.mean_units)

    def seconds(self, units: float) -> float:
        """Gives what a request of so many units will take; 0 while nothing is known, so that it is tried."""
        return self.mean_s * units / self.mean_units if self.mean_s else 0.0


@dataclass(slots=True, kw_only=True)
class Kind:
    """One kind of work, as a method of a service."""

    priority: Priority = Priority.SERVE
    pace: Pace = field(default_factory=Pace)
