"""What rebuilding an index costs: `python -m scripts.bench index --json FILE`.

A generated export and store (`bench.index.work`); rebuilds from nothing in every stored type, and one on top of the
index before, after items were added. The control, in the same run and in turns with the rebuilds: the bare FAISS and
NumPy work in it. Each call is a process of its own.
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

from scripts.bench.index.report import write_report
from scripts.bench.index.work import control, make_roots, rebuild
from scripts.bench.machine import describe_machine
from search_stage.index.faiss_module import load_faiss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.bench.index.work import Spent
    from search_stage.index.layout import VectorType

TARGET_RATIO = 1.3
"""A rebuild of an index over a million items is to take at most so much of the control's time."""


def main(
    json_file: Annotated[Path, typer.Option("--json", help="Write the numbers here.")],
    items: Annotated[int, typer.Option(min=2_000, help="Generated items.")] = 1_000_000,
    more: Annotated[int, typer.Option(min=0, help="Items added for the incremental rebuild.")] = 10_000,
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of a vector.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each kind; the least time counts.")] = 3,
    report: Annotated[Path | None, typer.Option(help="Write a dated report here, as Markdown.")] = None,
) -> None:
    """Measures rebuilds, prints them beside the control, and writes all numbers as JSON."""
    errors = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        machine = describe_machine(work)
        errors.print(f"{time.strftime('%H:%M:%S')} making {items:,} items")
        make_roots(work, items, more, dim)
        errors.print(f"{time.strftime('%H:%M:%S')} timing")
        controls, rebuilds = [], []
        for _ in range(repeats):
            controls.append(control(work, dim))
            rebuilds.append(rebuild(work, "store", "float32", True))
        halves = [(dtype, rebuild(work, "store", dtype, True)) for dtype in _SIXTEEN_BITS]
        grown = [rebuild(work, "next", "float32", False)]
    rows = [
        _row("float32, from nothing", rebuilds, controls),
        *(_row(f"{dtype}, from nothing", [spent], controls) for dtype, spent in halves),
        _row(f"float32, {more:,} items more", grown, controls),
    ]
    facts = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": f"python -m scripts.bench index --items {items} --more {more} --dim {dim} --repeats {repeats}",
        "data": "generated",
        "machine": machine,
        "faiss": load_faiss().__version__,
        "target": {"rebuild_over_control": TARGET_RATIO, "met": rows[0]["rebuild_over_control"] <= TARGET_RATIO},
        "rows": rows,
        "control": controls,
    }
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if report is not None:
        report.write_text(write_report(facts), encoding="utf-8")
    table = Table("rebuild", "s", "control s", "ratio", "of CPU", "peak MiB", "rows", "carried", "recall@50", "scored")
    for row in rows:
        seconds = (f"{row[key]:.2f}" for key in ("rebuild_s", "control_s", "rebuild_over_control", "cpu_over_control"))
        counts = (f"{row[key]:,.0f}" for key in ("peak_rss_mib", "rows", "carried"))
        table.add_row(row["what"], *seconds, *counts, f"{row['recall_at_50']:.3f}", f"{row['scored']:.3f}")
    Console(width=140).print(table)


_SIXTEEN_BITS: tuple[VectorType, ...] = ("float16", "bfloat16")


def _row(what: str, rebuilds: Sequence[Spent], controls: Sequence[Spent]) -> dict[str, Any]:
    best = min(rebuilds, key=lambda spent: spent["seconds"])
    control_s, control_cpu_s = (min(spent[key] for spent in controls) for key in ("seconds", "cpu_s"))
    cpu_s = min(spent["cpu_s"] for spent in rebuilds)
    return {
        "what": what,
        "rebuild_s": best["seconds"],
        "control_s": control_s,
        "rebuild_over_control": best["seconds"] / control_s,
        "cpu_s": cpu_s,
        "control_cpu_s": control_cpu_s,
        "cpu_over_control": cpu_s / control_cpu_s,
        "all_s": [spent["seconds"] for spent in rebuilds],
        "parts_s": best["parts"],
        "loading_s": best["loading_s"],
        "peak_rss_mib": best["peak_rss_mib"],
        "before_rss_mib": best["before_rss_mib"],
        **best["facts"],
    }
