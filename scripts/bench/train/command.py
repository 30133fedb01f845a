"""What a training step costs as the tables grow: `python -m scripts.bench train --json FILE`.

Generated requests; the training loop itself with `tables: touched` and, in turns with it, with `tables: dense` as the
control. Each training is a process of its own.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from scripts.bench.machine import describe_machine
from scripts.bench.timing import Spread, in_child
from scripts.bench.train.report import write_report
from scripts.bench.train.work import train_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.bench.train.work import Tables, Trained

_ITEMS = [10_000, 100_000, 1_000_000, 4_000_000]
_KINDS: tuple[Tables, ...] = ("dense", "touched")


def main(
    json_file: Annotated[Path, typer.Option("--json", help="Write the numbers here.")],
    report: Annotated[Path | None, typer.Option(help="Write a dated report here, as Markdown.")] = None,
    items: Annotated[list[int] | None, typer.Option(min=100, help="Items of the tree; default: several.")] = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps counted in each round.")] = 20,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a step.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Trainings of each kind and size.")] = 3,
    warm_up: Annotated[int, typer.Option(min=1, help="Steps before those counted.")] = 5,
) -> None:
    """Times training steps, prints them beside the control, and writes all numbers as JSON."""
    errors = Console(stderr=True)
    settings = {"steps": steps, "requests": requests, "rounds": rounds, "warm_up": warm_up}
    machine = describe_machine(json_file.parent if json_file.parent.is_dir() else Path())
    rows: list[dict[str, Any]] = []
    ratios: list[dict[str, float]] = []
    for num_items in items or _ITEMS:
        errors.print(f"{time.strftime('%H:%M:%S')} tables of {num_items:,} rows")
        found: dict[Tables, list[Trained]] = {kind: [] for kind in _KINDS}
        for _ in range(rounds):
            for kind in _KINDS:
                found[kind].append(in_child(train_tables, num_items, kind, steps, requests, warm_up))
        dense, touched = (_row(num_items, kind, found[kind]) for kind in _KINDS)
        rows += [dense, touched]
        ratios.append(
            {
                "items": num_items,
                "dense_over_touched": dense["step_ms"]["median"] / touched["step_ms"]["median"],
                "memory_over_touched": dense["training_mib"] / touched["training_mib"],
            }
        )
    sizes = " ".join(f"--items {num_items}" for num_items in items or _ITEMS)
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    facts = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": f"python -m scripts.bench train --json FILE {sizes} {options}",
        "data": "generated",
        "machine": machine,
        "torch": torch.__version__,
        "settings": settings,
        "rows": rows,
        "ratios": ratios,
    }
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if report is not None:
        report.write_text(write_report(facts), encoding="utf-8")
    table = Table("rows", "tables", "step ms", "least", "most", "rows touched", "peak MiB", "training MiB")
    for row in rows:
        spread = row["step_ms"]
        times = (f"{spread[key]:.1f}" for key in ("median", "min", "max"))
        sizes_mib = (f"{row[key]:,.0f}" for key in ("touched_rows", "peak_rss_mib", "training_mib"))
        table.add_row(f"{row['items']:,}", row["tables"], *times, *sizes_mib)
    Console(width=120).print(table)


def _row(num_items: int, kind: Tables, trained: Sequence[Trained]) -> dict[str, Any]:
    largest = max(trained, key=lambda one: one["peak_rss_mib"])
    return {
        "items": num_items,
        "tables": kind,
        "step_ms": asdict(Spread.of([took for one in trained for took in one["step_ms"]])),
        "median_of_each_round_ms": [float(np.median(one["step_ms"])) for one in trained],
        "touched_rows": trained[0]["touched_rows"],
        "peak_rss_mib": largest["peak_rss_mib"],
        "training_mib": largest["peak_rss_mib"] - largest["before_rss_mib"],
    }
