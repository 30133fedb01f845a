"""What a training step costs as the tables grow: `python -m scripts.bench train --json FILE`.

Generated requests; the training loop itself with `tables: touched` and, alternating with it, `tables: dense` as the
control. Each training is a process of its own.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer

from scripts.bench.report import JsonFile, ReportFile, new_facts, note, print_table, save
from scripts.bench.timing import Spread, in_child
from scripts.bench.train.report import NAMES, cells, sections
from scripts.bench.train.work import train_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.bench.train.work import Tables, Trained

_ITEMS = [10_000, 100_000, 1_000_000, 4_000_000]
_KINDS: tuple[Tables, ...] = ("dense", "touched")


def train(
    json_file: JsonFile,
    report: ReportFile = None,
    items: Annotated[list[int] | None, typer.Option(min=100, help="Items of the tree; default: several.")] = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps counted in each round.")] = 20,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a step.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Trainings of each kind and size.")] = 3,
    warm_up: Annotated[int, typer.Option(min=1, help="Steps before those counted.")] = 5,
) -> None:
    """Times training steps, prints them beside the control, and writes all numbers as JSON."""
    settings = {"steps": steps, "requests": requests, "rounds": rounds, "warm_up": warm_up}
    sizes = " ".join(f"--items {num_items}" for num_items in items or _ITEMS)
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    facts = new_facts(
        f"train --json FILE {sizes} {options}", Path(), data="generated", torch=torch.__version__, settings=settings
    )
    rows: list[dict[str, Any]] = []
    ratios: list[dict[str, float]] = []
    for num_items in items or _ITEMS:
        note(f"tables of {num_items:,} rows")
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
    facts |= {"rows": rows, "ratios": ratios}
    save(facts, json_file, report, *sections(facts))
    print_table(NAMES, [cells(row) for row in rows])


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
