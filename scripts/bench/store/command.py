"""What the behavior store costs: `python -m scripts.bench store --json FILE`.

Generated events (`bench.store.world`): bulk ingest, live appends and reads of users of 1,000 to 1,000,000 behaviors,
and the real click log of docs/datasets.md where its files are. The controls, in the same run: bare LMDB, same bytes.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.bench.machine import load_average
from scripts.bench.report import ReportFile, finish, new_facts, note, targets_table
from scripts.bench.store.report import sections
from scripts.bench.store.run import Settings, run
from scripts.bench.store.summary import summarise
from store.command import JsonOption

_DEFAULTS = Settings()


def store(
    events: Annotated[int, typer.Option(min=1_000, help="Generated events to ingest.")] = _DEFAULTS.events,
    large: Annotated[int, typer.Option(min=0, help="Ingest as many once, for the memory; 0 = no.")] = _DEFAULTS.large,
    appends: Annotated[int, typer.Option(min=1, help="Events to append in batches.")] = _DEFAULTS.appends,
    repeats: Annotated[int, typer.Option(min=1, help="Ingests.")] = _DEFAULTS.repeats,
    clicks: Annotated[
        Path, typer.Option("--globo", help="Folder of the original click log; left out where it is not there.")
    ] = Path("../shared/data/globo_news"),
    json_file: JsonOption = None,
    report: ReportFile = None,
    work: Annotated[Path, typer.Option(help="Folder to work in, on the disk to measure; needs 10 GB.")] = Path(
        "work/bench_store"
    ),
) -> None:
    """Measures the store, prints what was to be reached and what was, and writes all numbers as JSON."""
    if not clicks.is_dir():
        note(f"{clicks} is not there: the click log is left out")
    originals = clicks if clicks.is_dir() else None
    settings = Settings(events=events, large=large, appends=appends, repeats=repeats, clicks=originals)
    facts, text = bench(work, settings)
    finish(facts, text, json_file, report, targets_table(facts["targets"]))


def bench(work: Path, settings: Settings) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Measures everything in a folder of its own, which is removed; gives the facts and the sections of the report.

    Args:
        work: Folder to make that one in.
        settings: How much.
    """
    work.mkdir(parents=True, exist_ok=True)
    facts = new_facts(
        f"store --json FILE --events {settings.events} --large {settings.large} "
        f"--appends {settings.appends} --repeats {settings.repeats}",
        work,
    )
    machine = facts["machine"]
    machine["load_average_before"] = machine["load_average"]
    with tempfile.TemporaryDirectory(prefix="run-", dir=work) as folder:
        results = run(Path(folder), settings)
    machine["load_average"] = load_average()
    with suppress(OSError):
        work.rmdir()  # unless something else is in it
    facts = {**summarise(results), **facts, "measurements": asdict(results)}
    return facts, sections(facts, results, settings)
