"""What training costs: `python -m scripts.bench train --json FILE`. Generated requests, a process for each training.

1. The loop from files, alternating with the control, a plain loop with a padded copy of its history for every example.
2. Memory by the number of examples, while they are written and while they are trained on.
3. A step as the tables grow, with `tables: touched` and, alternating with it, `tables: dense` as the control.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer

from scripts.bench.markdown import formatted
from scripts.bench.report import ReportFile, finish, new_facts, note, target
from scripts.bench.timing import Spread, in_child
from scripts.bench.train.loop import OWN, PLAIN, hold, train_once
from scripts.bench.train.report import LOOP_COLUMNS, MEMORY_COLUMNS, TABLES_COLUMNS, sections, tables_cells
from scripts.bench.train.work import train_tables
from store.command import JsonOption
from store.terminal import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.bench.report import Target
    from scripts.bench.train.loop import Looped
    from scripts.bench.train.work import Tables, Trained

_ITEMS = [10_000, 100_000, 1_000_000, 4_000_000]
_PRESETS = ["tin", "tencent", "popularity"]
_KINDS: tuple[Tables, ...] = ("dense", "touched")
_TIMES = 10
"""How many times the examples of the small measurement of memory the large one has."""


def train(
    json_file: JsonOption = None,
    report: ReportFile = None,
    preset: Annotated[list[str] | None, typer.Option(help="Presets of the loop; default: several.")] = None,
    items: Annotated[list[int] | None, typer.Option(min=100, help="Items of the tree; default: several.")] = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps counted in each round.")] = 20,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a step.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Trainings of each kind and size.")] = 3,
    warm_up: Annotated[int, typer.Option(min=1, help="Steps before those counted.")] = 5,
    held: Annotated[int, typer.Option(min=1, help="Requests of the small measurement of memory.")] = 640,
) -> None:
    """Times training steps, prints them beside the controls, and writes all numbers as JSON."""
    settings = {"steps": steps, "requests": requests, "rounds": rounds, "warm_up": warm_up, "held": held}
    listed = [f"--preset {name}" for name in preset or _PRESETS] + [f"--items {count}" for count in items or _ITEMS]
    options = " ".join([*listed, *(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())])
    facts = new_facts(
        f"train --json FILE {options}", Path(), data="generated", torch=torch.__version__, settings=settings
    )
    facts["loop"] = _loop(preset or _PRESETS, steps, requests, rounds, warm_up)
    note("memory by the number of examples")
    counts = (held, _TIMES), (_TIMES * held, 1)
    facts["memory"] = [in_child(hold, count, requests, epochs) for count, epochs in counts]
    facts |= _tables(items or _ITEMS, steps, requests, rounds, warm_up)
    facts["targets"] = _targets(facts["memory"])
    shown = [(LOOP_COLUMNS, facts["loop"]), (MEMORY_COLUMNS, facts["memory"])]
    printed = [table(*columns, rows=formatted(columns, rows)) for columns, rows in shown]
    printed.append(table(*TABLES_COLUMNS, rows=tables_cells(facts["rows"])))
    finish(facts, sections(facts), json_file, report, *printed)


def _loop(presets: Sequence[str], steps: int, requests: int, rounds: int, warm_up: int) -> list[dict[str, Any]]:
    kinds = [PLAIN, *presets]
    found: dict[str, list[Looped]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        for kind in kinds:
            note(f"loop, round {number + 1}: {kind}")
            found[kind].append(in_child(train_once, kind, steps, requests, warm_up))
    rows = [_loop_row(kind, looped) for kind, looped in found.items()]
    return [{**row, "over_plain": row["examples_per_s"] / rows[0]["examples_per_s"]} for row in rows]


def _loop_row(kind: str, looped: Sequence[Looped]) -> dict[str, Any]:
    step_ms = Spread.of([took for one in looped for took in one["step_ms"]])
    per_s = 1000 * looped[0]["candidates"] / step_ms.median
    return {
        "preset": kind,
        "step_ms": asdict(step_ms),
        "examples_per_s": per_s,
        "pairs_per_s": per_s * OWN,
        "peak_rss_mib": max(one["peak_rss_mib"] for one in looped),
    }


def _tables(items: Sequence[int], steps: int, requests: int, rounds: int, warm_up: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    ratios: list[dict[str, float]] = []
    for num_items in items:
        note(f"tables of {num_items:,} rows")
        found: dict[Tables, list[Trained]] = {kind: [] for kind in _KINDS}
        for _ in range(rounds):
            for kind in _KINDS:
                found[kind].append(in_child(train_tables, num_items, kind, steps, requests, warm_up))
        dense, touched = (_tables_row(num_items, kind, found[kind]) for kind in _KINDS)
        rows += [dense, touched]
        ratios.append(
            {
                "items": num_items,
                "dense_over_touched": dense["step_ms"]["median"] / touched["step_ms"]["median"],
                "memory_over_touched": dense["training_mib"] / touched["training_mib"],
            }
        )
    return {"rows": rows, "ratios": ratios}


def _tables_row(num_items: int, kind: Tables, trained: Sequence[Trained]) -> dict[str, Any]:
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


def _targets(memory: Sequence[dict[str, float]]) -> list[Target]:
    small, large = memory
    return [
        target(f"memory of {what}, {_TIMES} times the examples over once", large[key] / small[key], "<=", 1.05)
        for what, key in (("writing", "writing_mib"), ("training", "training_mib"))
    ]
