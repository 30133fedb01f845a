"""What ranking costs: `python -m scripts.bench rank --json FILE`.

Requests over both services, by preset, number of candidates and length of history; the networks by themselves; a
search of real requests; and what a second ranking worker brings. Generated users and untrained networks
(`bench.rank.world`). The controls alternate with what they are compared to: one attention, a network on padded
rectangles, and SIM with everything repeated per candidate, each written plainly in torch.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from rich.progress import track

from scripts.bench.machine import load_average
from scripts.bench.rank.model import MORE_NETWORKS, PRESETS
from scripts.bench.rank.network import time_networks
from scripts.bench.rank.report import find_targets, sections
from scripts.bench.rank.rows import bench_rows
from scripts.bench.rank.throughput import bench_throughput
from scripts.bench.rank.world import build_rank_world
from scripts.bench.report import ReportFile, finish, new_facts, note, targets_table
from scripts.bench.search.real import bench_whole, build_real_world
from scripts.datasets.complete_journey.files import PACKAGE, package_folder
from store.command import JsonOption
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.bench.rank.world import RankWorld

LENGTHS = (1_000, 10_000, 100_000)
CANDIDATES = (1, 10, 100, 500)
ITEMS = 100_000
"""Of the catalogue."""
PARTS = ("network", "rows", "search", "workers")
ALTERNATIONS = 8
"""Of the measures in one process of the networks."""
WORKERS_ROUNDS, WORKERS_SECONDS = 2, 5.0
"""Of each number of workers."""


def rank(
    json_file: JsonOption = None,
    report: ReportFile = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Part to measure; default: {', '.join(PARTS)}.")] = None,
    preset: Annotated[list[str] | None, typer.Option(help=f"Preset to measure; default: {', '.join(PRESETS)}.")] = None,
    real: Annotated[
        Path | None, typer.Option(help=f"Folder of Complete Journey's tables; default: the package {PACKAGE}.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Alternations of everything with its controls.")] = 4,
    baseline: Annotated[
        Path | None, typer.Option(help="Another checkout, whose networks are timed in turn with these.")
    ] = None,
    before: Annotated[
        Path | None, typer.Option(help="JSON of a run of another commit, to stand beside this one in the report.")
    ] = None,
    work: Annotated[Path | None, typer.Option(help="Folder to work in; default: a temporary one.")] = None,
) -> None:
    """Measures, prints what was to be reached and what was, and writes all numbers as JSON."""
    parts = only or PARTS
    if strange := set(parts) - set(PARTS):
        raise InputError(f"--only: {min(strange)!r} is none of {', '.join(PARTS)}")
    presets = tuple(preset or PRESETS)
    if strange := set(presets) - {*PRESETS, *MORE_NETWORKS}:
        raise InputError(f"--preset: {min(strange)!r} is none of {', '.join((*PRESETS, *MORE_NETWORKS))}")
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        options = "".join(
            f" --{key} {value}" for key, values in (("only", only), ("preset", preset)) for value in values or ()
        )
        facts = new_facts(f"rank --json FILE --rounds {rounds}{options}", folder, torch=torch.__version__)
        facts["machine"]["load_average_before"] = facts["machine"]["load_average"]
        if before is not None:
            facts["before"] = json.loads(before.read_text(encoding="utf-8"))
        if "network" in parts:
            note("networks by themselves")
            networks = presets if preset else (*presets, *MORE_NETWORKS)
            facts["network"], other = time_networks(networks, rounds, ALTERNATIONS, baseline)
            if other:
                facts["network_before"] = other
        if {"rows", "workers"} & set(parts):
            note("building the world")
            world = build_rank_world(folder / "world", presets, LENGTHS, ITEMS)
            facts |= _served(world, parts, presets, folder, rounds)
        if "search" in parts:
            facts |= _searched(real or package_folder(), folder)
    facts["machine"]["load_average"] = load_average()
    facts["targets"] = find_targets(facts)
    tables = [targets_table(facts["targets"])] if facts["targets"] else []
    finish(facts, sections(facts), json_file, report, *tables)


def _searched(originals: Path | None, folder: Path) -> dict[str, Any]:
    """Measures search of real requests; says so where there are no data for it."""
    if originals is None:
        note(f"real requests are left out: {PACKAGE} is not installed, and --real names no folder")
        return {}
    note("search of real requests")
    whole = bench_whole(build_real_world(originals, folder / "real"), folder / "real-logs")
    return {"real_search": whole, "real_search_ms": whole["search_p50_ms"]}


def _served(
    world: RankWorld, parts: Sequence[str], presets: Sequence[str], folder: Path, rounds: int
) -> dict[str, Any]:
    """Measures what needs servers."""
    facts: dict[str, Any] = {}
    if "rows" in parts:
        note("requests over both services")
        rows = bench_rows(world, LENGTHS, CANDIDATES, folder / "logs", rounds)
        facts["rows"] = list(track(rows, "rows", total=len(LENGTHS) * len(CANDIDATES) * len(presets)))
    if "workers" in parts:
        note("two ranking workers against one")
        logs, count = folder / "workers", CANDIDATES[-2]
        # The shortest histories: search takes its part of the same cores.
        facts["workers"] = bench_throughput(
            world, presets[0], LENGTHS[0], count, logs, rounds=WORKERS_ROUNDS, seconds=WORKERS_SECONDS
        )
        facts["workers_ratio"] = facts["workers"]["ratio"]
    return facts
