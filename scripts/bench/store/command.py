"""What the behavior store costs: `python -m scripts.bench store --json FILE`.

Generated events (`bench.store.world`): bulk ingest, live appends and reads of users of 1,000 to 1,000,000 behaviors,
and the real click log of docs/datasets.md where its files are. The controls, in the same run: bare LMDB, same bytes.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from scripts.bench.machine import describe_machine
from scripts.bench.store.report import write_report
from scripts.bench.store.run import Settings, as_facts, run
from scripts.bench.store.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable

_DEFAULTS = Settings()


def main(
    json_file: Annotated[Path, typer.Option("--json", help="Write the numbers here.")],
    events: Annotated[int, typer.Option(min=1_000, help="Generated events to ingest.")] = _DEFAULTS.events,
    large: Annotated[int, typer.Option(min=0, help="Ingest so many once, for the memory; 0 = no.")] = _DEFAULTS.large,
    appends: Annotated[int, typer.Option(min=1, help="Events to append in batches.")] = _DEFAULTS.appends,
    repeats: Annotated[int, typer.Option(min=1, help="Ingests.")] = _DEFAULTS.repeats,
    clicks: Annotated[
        Path, typer.Option("--globo", help="Folder of the original click log; left out where it is not there.")
    ] = Path("../shared/data/globo_news"),
    report: Annotated[Path | None, typer.Option(help="Write a dated report here, as Markdown.")] = None,
    work: Annotated[Path, typer.Option(help="Folder to work in, on the disk to measure; needs 10 GB.")] = Path(
        "work/bench_store"
    ),
) -> None:
    """Measures the store, prints what was to be reached and what was, and writes all numbers as JSON."""
    console, errors = Console(width=120), Console(stderr=True)
    settings = Settings(events=events, large=large, appends=appends, repeats=repeats, clicks=clicks)
    if not clicks.is_dir():
        errors.print(f"{clicks} is not there: the click log is left out")
        settings = replace(settings, clicks=None)
    facts, text = bench(work, settings, lambda step: errors.print(f"{time.strftime('%H:%M:%S')} {step}"))
    _write(json_file, json.dumps(facts, indent=1) + "\n")
    if report is not None:
        _write(report, text)
    table = Table("what", "measured", "to reach", "met")
    for target in facts["targets"]:
        table.add_row(target["what"], f"{target['measured']:,.2f}", target["bar"], "yes" if target["met"] else "no")
    console.print(table)


def bench(work: Path, settings: Settings, tell: Callable[[str], None]) -> tuple[dict[str, Any], str]:
    """Measures everything in a folder of its own, which is removed; gives the facts and the report.

    Args:
        work: Folder to make that one in.
        settings: How much.
        tell: Told of every step before it begins.
    """
    work.mkdir(parents=True, exist_ok=True)
    load_before = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="run-", dir=work) as folder:
        results = run(Path(folder), settings, tell)
        machine = describe_machine(work)
    with suppress(OSError):
        work.rmdir()  # unless something else is in it
    facts = {
        **summarise(results),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": f"python -m scripts.bench store --json FILE --events {settings.events} --large {settings.large} "
        f"--appends {settings.appends} --repeats {settings.repeats}",
        "machine": {**machine, "load_average_before": load_before},
        "measurements": as_facts(results),
    }
    return facts, write_report(facts, results, settings)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
