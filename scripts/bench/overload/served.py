"""Both services under three times the load they can do: goodput, refusals, memory, and how soon they are well again."""

from __future__ import annotations

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
    """At that rate."""
    goodput_over_peak: float
    refused_p99_ms: float | None
    failed_per_s: float
    """Neither answered in time nor refused."""
    recovered_s: float | None
    """From the end of the overload; None = not in the seconds after it."""
    memory_mib: float
    """What both services hold, at the end of the overload less at its begin."""


def measure_served(roots: Roots, logs: Path, deadline_s: float, seconds: float, processes: int) -> Iterator[ServedRow]:
    """Gives a row for search and one for ranking.

    Args:
        roots: What is served.
        logs: Folder for the logs of the servers.
        deadline_s: Of every request.
        seconds: Of the overload.
        processes: Senders.
    """
    with BehaviorStore.open(roots.store) as store:
        population = read_population(store, "natural", np.random.default_rng([0, 9]))
    with running(roots, logs) as (search, ranking):
        for service, server in (("search", search), ("rank", ranking)):
            load = _Load(service, server, (search.pid, ranking.pid), population, deadline_s, processes)
            peak = _peak(load)
            note(f"{service}: {peak:.0f} a second at most, now {OVER:g} times that")
            stages = [_steady(OVER * peak, seconds), _steady(peak / 2, AFTER_S)]
            rows, good, offered, memory = load.run(stages)
            yield ServedRow(
                service=service,
                peak_per_s=peak,
                offered_per_s=float(rows[0]["offered_per_s"]),
                goodput_per_s=float(rows[0]["good_per_s"]),
                goodput_over_peak=float(rows[0]["good_per_s"] / peak),
                refused_p99_ms=rows[0]["refused_p99_ms"],
                failed_per_s=float(rows[0]["failed_per_s"]),
                recovered_s=seconds_until_well(good[int(seconds) :], offered[int(seconds) :]),
                memory_mib=memory[-1] - memory[0] if memory else 0.0,
            )


def _steady(rate: float, seconds: float) -> Stage:
    return Stage(first_per_s=rate, last_per_s=rate, seconds=seconds)


def _peak(load: _Load) -> float:
    load.run([_steady(FIRST_RATE, 3.0)])  # what is done for the first time is slow
    rate, best, behind = FIRST_RATE, 0.0, 0
    while behind < PATIENCE:
        good = float(load.run([_steady(rate, 5.0)])[0][0]["good_per_s"])
        behind = 0 if good >= KEEPS_UP * rate or good > best / KEEPS_UP else behind + 1
        best = max(best, good)
        rate *= 1.4
    return best


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
        """Gives rows of the stages, good and offered requests by second, and the memory in the first stage, MiB."""
        plan, memory = draw_plan(self._population, stages, self._mix), MemoryLog(self._pids)
        outcome = send(plan, self._target, self._processes, memory)
        seconds = by_second(plan, outcome, stages)
        held = [mib for at, mib in zip(memory.second, memory.rss_mib, strict=True) if 0 <= at <= stages[0].seconds]
        good, offered = ([float(each or 0) for each in seconds[name]] for name in ("good", "offered"))
        return stage_rows(plan, outcome, stages), good, offered, held
