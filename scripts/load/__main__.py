"""Puts load on running services, or on those of a folder: `python -m scripts.load --stage RATE:SECONDS`.

`--stage 50:30` is 50 requests a second for 30 seconds, `--stage 50-400:60` a ramp; several follow one another. With
`--work work/demo/generated`, a folder of `make demo` or `scripts.pipeline`, both services are started for the time of
the run; with `--ranking` or `--search` those that run are asked, and `--store` says where their ids come from.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from scripts.bench.machine import describe_machine, load_average
from scripts.load.arrivals import PROCESSES, parse_stage
from scripts.load.measures import by_second, kind_rows, result_rows, stage_rows
from scripts.load.memory import MemoryLog
from scripts.load.plan import METHODS, OF_RANKING, Mix, draw_plan
from scripts.load.sending import Target, send
from scripts.load.show import draw, late_warning, report_sections, result_tables
from scripts.load.visitors import parse_weights, read_population
from scripts.pipeline import CONFIGS
from scripts.servers import Roots, running
from serving import ClientSecurity
from serving.command import client_options
from store.behavior_store import BehaviorStore
from store.command import JsonOption, PlotOption, command_line, output_file, run
from store.errors import InputError
from store.terminal import STDOUT, console, say, warn, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LENGTHS = ("natural", "even")
LARGEST_SIZE = 1_000
"""Candidates of a request, by the contract."""


@client_options()
def main(
    stage: Annotated[list[str], typer.Option(help="RATE:SECONDS, or FROM-TO:SECONDS for a ramp; one or more.")],
    security: ClientSecurity,
    work: Annotated[
        Path | None, typer.Option(help="Folder with store, index and bundles; both services are started over it.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Folder with search.yaml for them; default: the one named as the work folder is."),
    ] = None,
    ranking: Annotated[str | None, typer.Option(help="host:port of a running ranking service.")] = None,
    search: Annotated[str | None, typer.Option(help="host:port of a running search service.")] = None,
    store: Annotated[Path | None, typer.Option(help="Root of the store that they serve, or of a copy.")] = None,
    pid: Annotated[list[int] | None, typer.Option(help="Process whose memory is noted; for running services.")] = None,
    methods: Annotated[str, typer.Option(help=f"Weights of {', '.join(METHODS)}.")] = "rank",
    candidates: Annotated[str, typer.Option(help="Weights of numbers of candidates.")] = "10=5,100=4,500=1",
    arrivals: Annotated[str, typer.Option(help="poisson, or constant for even gaps.")] = "poisson",
    lengths: Annotated[str, typer.Option(help="natural, or even: long histories as often as short ones.")] = "natural",
    zipf_users: Annotated[float, typer.Option(min=0.0, help="Exponent of the users' popularity; 0 = all alike.")] = 1.0,
    zipf_ads: Annotated[float, typer.Option(min=0.0, help="Exponent of the candidates' popularity.")] = 0.8,
    repeat: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of visits by one who was just there.")] = 0.3,
    deadline_s: Annotated[float, typer.Option("--deadline-seconds", min=0.001, help="Of every request.")] = 0.5,
    processes: Annotated[int, typer.Option(min=1, help="Senders.")] = 1,
    connections: Annotated[int, typer.Option(min=1, help="Of each sender to each service.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    json_file: JsonOption = None,
    report: Annotated[Path | None, output_file("--report", "Write a dated report here, as Markdown.")] = None,
    plot: PlotOption = None,
) -> None:
    """Sends requests at times fixed beforehand, and says how many were answered well and how fast."""
    stages = [parse_stage(each) for each in stage]
    mix = Mix(
        process=_one_of("--arrivals", arrivals, PROCESSES),
        methods=_known(parse_weights("--methods", methods)),
        candidates=_sizes(parse_weights("--candidates", candidates)),
        user_exponent=zipf_users,
        ad_exponent=zipf_ads,
        repeat=repeat,
        seed=seed,
    )
    _one_of("--lengths", lengths, LENGTHS)
    roots = _roots(work, config, store, (ranking, search))
    with BehaviorStore.open(roots.store) as opened:
        plan = draw_plan(read_population(opened, lengths, np.random.default_rng([seed, 9])), stages, mix)
    with _services(roots, work, ranking, search, pid or ()) as (addresses, pids, what):
        target = Target(
            addresses=_addressed(mix.methods, *addresses),
            deadline_s=deadline_s,
            connections=connections,
            security=security,
        )
        memory = MemoryLog(pids)
        before = load_average()
        with console(stderr=True).status(f"{len(plan):,} requests to {what}"):
            outcome = send(plan, target, processes, memory)
    facts: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": f"python -m scripts.load {' '.join(sys.argv[1:])}",
        "machine": {**describe_machine(roots.store), "load_average_before": before},
        "what": what,
        "stages": stage_rows(plan, outcome, stages),
        "results": result_rows(outcome),
        "kinds": kind_rows(plan, outcome),
        "reasons": outcome.reasons,
        "seconds": by_second(plan, outcome, stages),
        "memory": {"second": memory.second, "rss_mib": memory.rss_mib},
    }
    _show(facts, json_file, report, plot)


def _show(facts: dict[str, Any], json_file: Path | None, report: Path | None, plot: Path | None) -> None:
    if json_file != STDOUT:
        say(*result_tables(facts))
        for text, count in list(facts["reasons"].items())[:5]:
            say(f"{count:,} times {text}")
    if warning := late_warning(facts):
        warn(f"attention: {warning}")
    if json_file is not None:
        write_json(json_file, facts)
    if plot is not None:
        draw(facts, plot)
    if report is not None:
        write_text(report, "\n\n".join(report_sections(facts, plot)) + "\n")


def _one_of(option: str, given: str, known: Sequence[str]) -> str:
    if given not in known:
        raise InputError(f"{option}: {given!r} is none of {', '.join(known)}")
    return given


def _known(methods: dict[str, float]) -> dict[str, float]:
    for name in methods:
        _one_of("--methods", name, tuple(METHODS))
    return methods


def _sizes(weights: dict[str, float]) -> dict[int, float]:
    if bad := [name for name in weights if not name.isdecimal() or not 1 <= int(name) <= LARGEST_SIZE]:
        raise InputError(f"--candidates: {bad[0]!r} is no number from 1 to {LARGEST_SIZE:,}")
    return {int(name): weight for name, weight in weights.items()}


def _roots(work: Path | None, config: Path | None, store: Path | None, running: Sequence[str | None]) -> Roots:
    if work is None:
        if store is None or not any(running):
            raise InputError("give --work, or --store with --ranking, --search or both")
        return Roots(store=store, index=store, bundle=store, config=store)
    if any(running) or store is not None:
        raise InputError("--work starts services of its own: leave out --ranking, --search and --store, or --work")
    chosen = config or CONFIGS / work.name
    if not chosen.is_dir():
        raise InputError(f"--config: there is no {chosen}; say which folder has the search.yaml for {work}")
    return Roots(store=work / "store", index=work / "index", bundle=work / "bundles", config=chosen)


@contextmanager
def _services(
    roots: Roots, work: Path | None, ranking: str | None, search: str | None, pids: Sequence[int]
) -> Iterator[tuple[tuple[str | None, str | None], Sequence[int], str]]:
    """Gives the addresses of ranking and search, processes to watch, and what to call all that."""
    if work is None:
        yield (ranking, search), pids, " and ".join(each for each in (ranking, search) if each)
        return
    with running(roots, work / "logs") as (of_search, of_ranking):
        yield (of_ranking.address, of_search.address), (of_search.pid, of_ranking.pid), f"the services of {work.name}"


def _addressed(methods: Iterable[str], ranking: str | None, search: str | None) -> dict[str, str]:
    found = {}
    for name in methods:
        address, option = (ranking, "--ranking") if name in OF_RANKING else (search, "--search")
        if address is None:
            raise InputError(f"--methods: {name} needs the address {option}")
        found[name] = address
    return found


if __name__ == "__main__":
    run(command_line(None, main))
