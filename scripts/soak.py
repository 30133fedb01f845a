"""Serves and asks for an hour, and says what grew: `python -m scripts.soak --work FOLDER --json FILE`, `make soak`.

Both services of a folder of `make demo` are started and asked at a steady rate, in an open loop. Memory, descriptors
and threads of each are noted every second; growth is the slope of a straight line behind the warm-up. Exit status 1 if
memory grows by more than `--most-mib` an hour, descriptors or threads grow, or a request fails.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from scripts.bench.machine import describe_machine
from scripts.load.arrivals import Stage
from scripts.load.measures import result_rows, stage_rows
from scripts.load.plan import METHODS, OF_RANKING, Mix, draw_plan
from scripts.load.sending import Target, send
from scripts.load.visitors import read_population
from scripts.pipeline import CONFIGS
from scripts.servers import Roots, running
from store.behavior_store import BehaviorStore
from store.command import JsonOption, command_line, run
from store.terminal import say, table, warn, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.servers import Server

WARM_UP = 0.2
"""Share of the time in which caches fill."""
WEIGHTS = {"rank": 0.9, "explain": 0.02, "search": 0.06, "history": 0.02}
SIZES = {10: 0.5, 100: 0.4, 500: 0.1}
MOST_MORE = 4
"""Descriptors and threads that may come and go."""
_COLUMNS = ("rss_mib", "descriptors", "threads")


class HeldLog:
    """Notes what some processes hold, each by itself."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        self._pids = {name: server.pid for name, server in servers.items()}
        self.seconds: list[float] = []
        self.held: dict[str, dict[str, list[float]]] = {name: {each: [] for each in _COLUMNS} for name in servers}

    def __call__(self, second: float) -> None:
        """Takes a sample."""
        self.seconds.append(second)
        for name, pid in self._pids.items():
            for column, value in zip(_COLUMNS, held_by(pid), strict=True):
                self.held[name][column].append(value)


def held_by(pid: int) -> tuple[float, int, int]:
    """Gives resident memory of a process, MiB, its open descriptors and its threads."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return (
        int(status["VmRSS"].split()[0]) / 1024,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        int(status["Threads"]),
    )


def growth(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Gives how much a value grows an hour, by the straight line nearest to what was noted behind the warm-up."""
    first = next(at for at, second in enumerate(seconds) if second >= WARM_UP * seconds[-1])
    return float(np.polyfit(np.array(seconds[first:]), np.array(values[first:]), 1)[0] * 3600)


def soak(
    work: Annotated[Path, typer.Option(help="Folder with store, index and bundles, as `make demo` makes them.")],
    seconds: Annotated[float, typer.Option(min=10, help="How long to ask.")] = 3600.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")] = 20.0,
    most_mib: Annotated[float, typer.Option(min=0, help="Memory that a process may gain an hour, MiB.")] = 1.0,
    config: Annotated[Path | None, typer.Option(help="Folder with its search.yaml; default: by its name.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Asks both services of a folder for a long time, and says what grew."""
    roots = Roots(
        store=work / "store", index=work / "index", bundle=work / "bundles", config=config or CONFIGS / work.name
    )
    stages = [Stage(first_per_s=rate, last_per_s=rate, seconds=seconds)]
    mix = Mix(methods=WEIGHTS, candidates=SIZES, user_exponent=1.0, ad_exponent=0.8, repeat=0.3, seed=0)
    with BehaviorStore.open(roots.store) as store:
        plan = draw_plan(read_population(store, "natural", np.random.default_rng([0, 9])), stages, mix)
    with running(roots, work / "logs") as (search, ranking):
        servers = {"search": search, "ranking": ranking}
        addresses = {name: (ranking if name in OF_RANKING else search).address for name in METHODS}
        held = HeldLog(servers)
        warn(f"{len(plan):,} requests in {seconds:,.0f} seconds")
        outcome = send(plan, Target(addresses=addresses, deadline_s=2.0, connections=8), 1, held)
    grown = {name: {each: growth(held.seconds, held.held[name][each]) for each in _COLUMNS} for name in servers}
    (asked,) = stage_rows(plan, outcome, stages)
    facts: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": f"python -m scripts.soak {' '.join(sys.argv[1:])}",
        "machine": describe_machine(roots.store),
        "growth_per_hour": grown,
        "requests": asked,
        "results": result_rows(outcome),
        "seconds": held.seconds,
        "held": held.held,
    }
    if json_file is not None:
        write_json(json_file, facts)
    rows = [
        (name, f"{of_one['rss_mib']:.2f}", *(_span(held.held[name][each]) for each in _COLUMNS))
        for name, of_one in grown.items()
    ]
    say(table("service", "MiB an hour", "MiB", "descriptors", "threads", rows=rows))
    say(f"{asked['good_per_s']:.1f} of {asked['offered_per_s']:.1f} requests a second answered in time")
    problems = [
        f"{name}: {each} grew by {value:.2f} an hour"
        for name, of_one in grown.items()
        for each, value in of_one.items()
        if value > (most_mib if each == "rss_mib" else MOST_MORE)
    ]
    if asked["failed_per_s"]:
        problems.append("requests failed: see the results")
    for problem in problems:
        warn(problem)
    if problems:
        raise typer.Exit(1)


def _span(values: Sequence[float]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f}"


if __name__ == "__main__":
    run(command_line(None, soak))
