"""What search costs by length of history and number of candidates: `python -m scripts.bench search --json FILE`.

Generated users over a million generated items (`bench.search.world`). The control, in the same run and in turn with
what it is compared to: plain `faiss.knn` over the ready-gathered attention vectors of all of the user's behaviors.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from scripts.bench.search.measure import Settings, bench_length, bench_workers, describe
from scripts.bench.search.report import targets, write_report
from scripts.bench.search.world import build_world

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
CANDIDATES = (1, 10, 100, 500)


def main(
    json_file: Annotated[Path, typer.Option("--json", help="Write the numbers here.")],
    items: Annotated[int, typer.Option(min=100_000, help="Items of the catalogue.")] = 1_000_000,
    skew: Annotated[
        float, typer.Option(min=0, help="Popularity of the n-th item is n to the power of minus this.")
    ] = 1,
    longest: Annotated[int, typer.Option(min=1_000, help="Leave out longer histories.")] = LENGTHS[-1],
    calls: Annotated[int, typer.Option(min=1, help="Timed calls of each measure, of the quick ones more.")] = 15,
    workers: Annotated[bool, typer.Option(help="Also measure the throughput of two worker processes.")] = True,
    report: Annotated[Path | None, typer.Option(help="Write a dated report here, as Markdown.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder to work in; default: a temporary one.")] = None,
) -> None:
    """Measures, prints and writes one row per length of history and number of candidates, and what workers bring."""
    lengths = [length for length in LENGTHS if length <= longest]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        facts = bench(Path(folder), lengths, CANDIDATES, items, skew, Settings(calls=calls), workers=workers)
    facts["command"] = f"python -m scripts.bench search --json FILE --items {items} --skew {skew:g} --calls {calls}"
    facts["targets"] = targets(facts)
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if report is not None:
        report.write_text(write_report(facts), encoding="utf-8")
    show(facts["rows"])
    show(facts["targets"])


def bench(
    folder: Path,
    lengths: Sequence[int],
    candidates: Sequence[int],
    items: int,
    skew: float,
    settings: Settings,
    *,
    workers: bool,
) -> dict[str, Any]:
    """Builds the world and measures everything in it.

    Args:
        folder: To work in.
        lengths: Behaviors of the users.
        candidates: Numbers of candidates.
        items: Of the catalogue.
        skew: See `bench.search.world`.
        settings: How to measure.
        workers: Whether to measure worker processes too.
    """
    machine = describe(folder)
    started_s = time.monotonic()
    world = build_world(folder / "world", lengths, items, skew)
    built_s = time.monotonic() - started_s
    rows = bench_length(world, lengths, candidates, folder / "logs", settings)
    facts = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "built_s": built_s, **machine, "rows": rows}
    if workers:
        facts["workers"] = [bench_workers(world, length, folder / "logs") for length in lengths[1:3] or lengths]
    return facts


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints rows as a table."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:,.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=200).print(table)
