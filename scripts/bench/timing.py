"""How the numbers are taken: repeats and their spread, one core, a process of its own, peak memory."""

from __future__ import annotations

import gc
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The repeats of one measurement."""

    min: float
    median: float
    max: float
    repeats: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Gives the spread of some repeats, at least one."""
        return Spread(min=min(values), median=float(np.median(values)), max=max(values), repeats=len(values))


class StepTimes:
    """Takes the progress of a build, and gives the seconds that each step took."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._last: dict[str, float] = {}

    def __call__(self, step: str, done: float, rows: int = 0) -> None:
        """Notes when a step was last heard of."""
        self._last[step] = time.perf_counter()

    def seconds(self) -> dict[str, float]:
        """Gives each step's time: from the last call for the step before it to its own last call."""
        bounds = [self._started, *self._last.values()]
        return {step: stop - start for step, start, stop in zip(self._last, bounds, bounds[1:], strict=False)}


def in_child(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function in a process of its own, started anew: its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def peak_rss_mib() -> float:
    """Gives the peak memory of this process.

    `ru_maxrss` is at least what the parent had when it started this process; `VmHWM` is the same counter without that.
    """
    found = _status_mib("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if found is None else found


def anonymous_mib() -> float:
    """Gives the memory that this process has of its own now: neither mapped files nor the page cache are in it.

    Where the system does not tell, all of its memory at its largest.
    """
    found = _status_mib("RssAnon")
    return peak_rss_mib() if found is None else found


def _status_mib(name: str) -> float | None:
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    return None


@contextmanager
def one_core() -> Iterator[None]:
    """Keeps this process, with all its threads to come, on one core."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def elapsed_ms(call: Callable[[], object]) -> float:
    """Gives the time of one call, milliseconds."""
    start_s = time.perf_counter()
    call()
    return (time.perf_counter() - start_s) * 1000


def mean_us(call: Callable[[], object], calls: int) -> float:
    """Gives the mean time of a call, microseconds, over `calls` of them in a row, with the garbage collector off."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        start_s = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start_s) / calls * 1e6
    finally:
        if was_enabled:
            gc.enable()
