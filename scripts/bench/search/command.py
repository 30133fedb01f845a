"""What search costs by length of history and number of candidates: `python -m scripts.bench search --json FILE`.

Generated users over a million generated items (`bench.search.world`). The control, in the same run, alternating with
what it is compared to: plain `faiss.knn` over the ready-gathered attention vectors of all of the user's behaviors.
"""

from __future__ import annotations

import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from scripts.bench.markdown import cells
from scripts.bench.report import JsonFile, ReportFile, new_facts, print_table, print_targets, save
from scripts.bench.search.measure import CATEGORIES, CONFIG, bench_lengths, bench_workers
from scripts.bench.search.report import sections, targets
from scripts.bench.search.world import build_world

LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
CANDIDATES = (1, 10, 100, 500)


def search(
    json_file: JsonFile,
    items: Annotated[int, typer.Option(min=100_000, help="Items of the catalogue.")] = 1_000_000,
    skew: Annotated[
        float, typer.Option(min=0, help="Popularity of the n-th item is n to the power of minus this.")
    ] = 1,
    longest: Annotated[int, typer.Option(min=1_000, help="Leave out longer histories.")] = LENGTHS[-1],
    calls: Annotated[int, typer.Option(min=1, help="Timed calls of each measure, of the quick ones more.")] = 15,
    workers: Annotated[bool, typer.Option(help="Also measure the throughput of two worker processes.")] = True,
    report: ReportFile = None,
    work: Annotated[Path | None, typer.Option(help="Folder to work in; default: a temporary one.")] = None,
) -> None:
    """Measures, prints and writes one row per length of history and number of candidates, and what workers bring."""
    lengths = [length for length in LENGTHS if length <= longest]
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        facts = new_facts(
            f"search --json FILE --items {items} --skew {skew:g} --calls {calls}",
            folder,
            versions={package: version(package) for package in ("faiss-cpu", "numba", "grpcio")},
            config=CONFIG,
            categories=CATEGORIES,
        )
        started_s = time.monotonic()
        world = build_world(folder / "world", lengths, items, skew)
        facts["built_s"] = time.monotonic() - started_s
        facts["rows"] = bench_lengths(world, lengths, CANDIDATES, folder / "logs", calls)
        if workers:
            facts["workers"] = [bench_workers(world, length, folder / "logs") for length in lengths[1:3] or lengths]
    facts["targets"] = targets(facts)
    save(facts, json_file, report, *sections(facts))
    print_table(tuple(facts["rows"][0]), [cells(row) for row in facts["rows"]])
    print_targets(facts["targets"])
