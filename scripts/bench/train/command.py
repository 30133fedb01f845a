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

from scripts.bench.markdown import formatted, markdown_table, paragraph, rows_table
from scripts.bench.report import ReportFile, finish, head, new_facts, note
from scripts.bench.timing import Spread, in_child
from scripts.bench.train.work import BEHAVIORS, CANDIDATES, PRESET, train_tables
from store.command import JsonOption
from store.terminal import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.bench.train.work import Tables, Trained

_ITEMS = [10_000, 100_000, 1_000_000, 4_000_000]
_KINDS: tuple[Tables, ...] = ("dense", "touched")
_COLUMNS = {
    "rows of a table": "{row[items]:,}",
    "tables": "{row[tables]}",
    "step, ms": "{row[step_ms][median]:.1f}",
    "least to most": "{row[step_ms][min]:.1f} to {row[step_ms][max]:.1f}",
    "of each round": "{row[rounds]}",
    "rows touched": "{row[touched_rows]:,.0f}",
    "peak, MiB": "{row[peak_rss_mib]:,.0f}",
    "training alone, MiB": "{row[training_mib]:,.0f}",
}


def train(
    json_file: JsonOption = None,
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
    finish(facts, _sections(facts), json_file, report, table(*_COLUMNS, rows=_cells(rows)))


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


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rounds = [", ".join(f"{median:.1f}" for median in row["median_of_each_round_ms"]) for row in rows]
    return formatted(_COLUMNS, [{**row, "rounds": each} for row, each in zip(rows, rounds, strict=True)])


def _sections(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Gives the sections of a report from what the JSON file holds."""
    settings = facts["settings"]
    return (
        head(
            "What a training step costs, by size of the tables",
            facts,
            f"Generated requests and a network of preset `{PRESET}` with two tree tables of 16 dimensions; a step",
            f"has {settings['requests']} requests of {CANDIDATES} candidates and {BEHAVIORS} behaviors, all nodes",
            "as likely as any other. The training loop of `model_stage/training/trainer.py` with `tables: touched`",
            "and, as the control, `tables: dense`, alternating, each in a process of its own, one thread.",
            f"{settings['steps']} steps in each of {settings['rounds']} rounds, after {settings['warm_up']} that",
            "do not count; the median over all, and that of each round.",
            torch=facts["torch"],
        ),
        paragraph(
            "*Rows touched*: distinct rows of a tree table that a step reads. *Peak*: largest resident memory of",
            "the process; *training alone*: what training adds to the largest before it, with network and requests",
            "made: gradients, moments, the running average, and at the end the copy of the best epoch.",
        ),
        markdown_table(_COLUMNS, _cells(facts["rows"])),
        "## Dense over touched",
        rows_table(facts["ratios"], ("rows of a table", "time of a step", "memory of training alone")),
    )
