"""Both services under three times the load they can do: goodput, refusals, memory, and how soon they are well again."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from scripts.bench.report import note
from scripts.load.arrivals import Stage
from scripts.load.measures import by_second, stage_rows
from scripts.load.memory import MemoryLog
from scripts.load.plan import Mix, draw_plan
from scripts.load.sending import Target, send
from scripts.load.visitors import read_population
from scripts.servers import running
from store.behavior_store import BehaviorStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from scripts.load.measures import Row
    from scripts.load.visitors import Population
    from scripts.servers import Roots, Server

FIRST_RATE = 20.0
"""Requests a second; two fifths more each time until a service does not keep up."""
KEEPS_UP = 0.9
PATIENCE = 2
"""Rates in a row at which a service neither keeps up nor answers more than before: then its peak is known."""
OVER = 3.0
ROUNDS = 4
"""A machine is quicker at one time than at another: the peak's rate and the overload are asked in turn."""
AFTER_S = 10.0
WELL = 0.95
"""Share of the requests of a second that are answered well, from when on a service has recovered."""


class ServedRow(TypedDict):
    """One service."""

    service: str
    peak_per_s: float
    """The most that was answered in time a second, at any rate."""
    offered_per_s: float
    goodput_per_s: float
    """At that rate, the median of the rounds."""
    goodput_over_peak: float
    """Over what was answered in the same round at the rate of the peak, the median of the rounds."""
    goodput_over_peak_each: list[float]
    refused_p99_ms: float
    """The median of the rounds; 0 = nobody was refused in half of them."""
    failed_per_s: float
    """Neither answered in time nor refused; the most of any round."""
    recovered_s: float | None
    """From the end of the overload; None = not in the seconds after it."""
    memory_mib: float
    """What both services hold, at the end of the rounds less at their begin."""


def measure_served(roots: Roots, logs: Path, deadline_s: float, seconds: float, processes: int) -> Iterator[ServedRow]:
    """Gives a row for search and one for ranking.

    Args:
        roots: What is served.
        logs: Folder for the logs of the servers.
        deadline_s: Of every request.
        seconds: Of the overload, shared among the rounds.
        processes: Senders.
    """
    with BehaviorStore.open(roots.store) as store:
        population = read_population(store, "natural", np.random.default_rng([0, 9]))
    with running(roots, logs) as (search, ranking):
        for service, server in (("search", search), ("rank", ranking)):
            load = _Load(service, server, (search.pid, ranking.pid), population, deadline_s, processes)
            peak, rate = _peak(load)
            note(f"{service}: {peak:.0f} a second at most, of {rate:.0f}; now {OVER:g} times that")
            each_s = seconds / ROUNDS
            stages = ROUNDS * [_steady(rate, each_s), _steady(OVER * peak, each_s)] + [_steady(peak / 2, AFTER_S)]
            rows, good, offered, memory = load.run(stages)
            at_peak, over = rows[: 2 * ROUNDS : 2], rows[1 : 2 * ROUNDS : 2]
            ratios = [float(one["good_per_s"] / other["good_per_s"]) for one, other in zip(over, at_peak, strict=True)]
            after = int(2 * seconds)
            yield ServedRow(
                service=service,
                peak_per_s=peak,
                offered_per_s=median(float(row["offered_per_s"]) for row in over),
                goodput_per_s=median(float(row["good_per_s"]) for row in over),
                goodput_over_peak=median(ratios),
                goodput_over_peak_each=ratios,
                refused_p99_ms=median(float(row["refused_p99_ms"] or 0.0) for row in over),
                failed_per_s=max(float(row["failed_per_s"]) for row in over),
                recovered_s=seconds_until_well(good[after:], offered[after:]),
                memory_mib=memory[-1] - memory[0] if memory else 0.0,
            )


def _steady(rate: float, seconds: float) -> Stage:
    return Stage(first_per_s=rate, last_per_s=rate, seconds=seconds)


def _peak(load: _Load) -> tuple[float, float]:
    """Gives the most that is answered in time a second, and of how many."""
    load.run([_steady(FIRST_RATE, 3.0)])  # what is done for the first time is slow
    rate, best, best_rate, behind = FIRST_RATE, 0.0, FIRST_RATE, 0
    while behind < PATIENCE:
        good = float(load.run([_steady(rate, 5.0)])[0][0]["good_per_s"])
        behind = 0 if good >= KEEPS_UP * rate or good > best / KEEPS_UP else behind + 1
        if good > best:
            best, best_rate = good, rate
        rate *= 1.4
    return best, best_rate


def seconds_until_well(good: Sequence[float], offered: Sequence[float]) -> float | None:
    """Gives after how many seconds every further one was well."""
    of_seconds = enumerate(zip(good, offered, strict=True))
    bad = [second for second, (of_good, of_all) in of_seconds if of_good < WELL * of_all]
    if not bad:
        return 0.0
    return bad[-1] + 1.0 if bad[-1] + 1 < len(good) else None


class _Load:
    def __init__(
        self,
        service: str,
        server: Server,
        pids: Sequence[int],
        population: Population,
        deadline_s: float,
        processes: int,
    ) -> None:
        self._target = Target(addresses={service: server.address}, deadline_s=deadline_s, connections=8)
        self._mix = Mix(
            methods={service: 1.0}, candidates={100: 1.0}, user_exponent=1.0, ad_exponent=0.8, repeat=0.3, seed=0
        )
        self._population = population
        self._pids = pids
        self._processes = processes

    def run(self, stages: Sequence[Stage]) -> tuple[list[Row], list[float], list[float], list[float]]:
        """Gives rows of the stages, good and offered requests by second, and the memory before the last stage, MiB."""
        plan, memory = draw_plan(self._population, stages, self._mix), MemoryLog(self._pids)
        outcome = send(plan, self._target, self._processes, memory)
        seconds = by_second(plan, outcome, stages)
        until_s = sum(stage.seconds for stage in stages[:-1])
        held = [mib for at, mib in zip(memory.second, memory.rss_mib, strict=True) if 0 <= at <= until_s]
        good, offered = ([float(each or 0) for each in seconds[name]] for name in ("good", "offered"))
        return stage_rows(plan, outcome, stages), good, offered, held
