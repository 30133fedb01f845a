"""When requests are sent: stages of a rate, and the arrival process within them.

The times are drawn before the first request is sent and no answer moves them: the load is an open loop. A server that
stalls gets everything that would have come meanwhile, and each of those requests has waited since its own time.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.types import F64, I64

PROCESSES = ("poisson", "constant")
LARGEST_RATE = 1e6
MOST_REQUESTS = 50_000_000
"""Of one run: their times and results are kept one by one."""
_STAGE = re.compile(r"(?P<first>\d+(?:\.\d+)?)(?:-(?P<last>\d+(?:\.\d+)?))?:(?P<seconds>\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Some seconds of a rate that stays, or that grows or falls evenly."""

    first_per_s: float
    last_per_s: float
    seconds: float

    @property
    def requests(self) -> float:
        """Requests that are to come in it."""
        return (self.first_per_s + self.last_per_s) / 2 * self.seconds

    def __str__(self) -> str:
        rate = f"{self.first_per_s:g}"
        if self.last_per_s != self.first_per_s:
            rate += f"-{self.last_per_s:g}"
        return f"{rate}:{self.seconds:g}"


def parse_stage(text: str) -> Stage:
    """Reads a stage as the command line gives it: `RATE:SECONDS`, or `FROM-TO:SECONDS` for a ramp.

    Raises:
        InputError: The text is none.
    """
    match = _STAGE.fullmatch(text)
    if match is None:
        raise InputError(f"--stage: {text!r} is neither RATE:SECONDS nor FROM-TO:SECONDS, as 50:30 or 50-200:60")
    first = float(match["first"])
    stage = Stage(first_per_s=first, last_per_s=float(match["last"] or first), seconds=float(match["seconds"]))
    if not 0 < stage.seconds < math.inf or max(first, stage.last_per_s) > LARGEST_RATE:
        raise InputError(f"--stage: {text!r}: seconds must be positive, and a rate at most {LARGEST_RATE:,.0f}")
    return stage


def starts_of(stages: Sequence[Stage]) -> F64:
    """Gives when each stage begins, seconds from the first one's begin, and when the last one ends; (K + 1,)."""
    return np.array([0.0, *accumulate(stage.seconds for stage in stages)])


def send_times(stages: Sequence[Stage], process: str, draw: np.random.Generator) -> tuple[F64, I64]:
    """Draws when each request is to be sent.

    Args:
        stages: One after another.
        process: `poisson` = independent users, so that requests bunch as they do in life; `constant` = evenly spaced.
        draw: Of the arrivals.

    Returns:
        Seconds from the begin, ascending, and the stage of each. Both (N,)

    Raises:
        InputError: There would be no request, or more than `MOST_REQUESTS`.
    """
    total = sum(stage.requests for stage in stages)
    if total > MOST_REQUESTS:
        raise InputError(f"--stage: {total:,.0f} requests are more than {MOST_REQUESTS:,}")
    # Both processes have gaps of mean one where time is counted in requests to come; from there back to seconds.
    if process == "constant":
        expected = np.arange(0.5, total)
    else:
        gaps = draw.exponential(size=int(total + 10 * math.sqrt(total) + 10))
        expected = np.cumsum(gaps)
        expected = expected[expected < total]
    if not len(expected):
        raise InputError(f"--stage: {', '.join(map(str, stages))} has no request")
    ends = np.cumsum([stage.requests for stage in stages])
    stage_of = np.minimum(np.searchsorted(ends, expected, side="right"), len(stages) - 1)
    times = np.empty(len(expected))
    for number, (stage, start_s, end) in enumerate(zip(stages, starts_of(stages)[:-1], ends, strict=True)):
        rows = stage_of == number
        times[rows] = start_s + _time_of(stage, expected[rows] - (end - stage.requests))
    return times, stage_of


def _time_of(stage: Stage, count: F64) -> F64:
    """Gives when a stage has had that many requests: solves first t + (last - first) t^2 / (2 seconds) = count."""
    slope = (stage.last_per_s - stage.first_per_s) / stage.seconds
    # The form of the root that loses no digits for a small slope.
    root = np.sqrt(np.maximum(stage.first_per_s**2 + 2 * slope * count, 0.0))
    times: F64 = np.minimum(2 * count / np.maximum(stage.first_per_s + root, 1e-300), stage.seconds)
    return times
