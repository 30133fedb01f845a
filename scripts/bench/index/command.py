"""What rebuilding an index costs: `python -m scripts.bench index --json FILE`.

A generated export and store (`bench.index.work`); rebuilds from nothing in every stored type, and one on top of the
index before, after items were added. The control, in the same run and alternating with the rebuilds: the bare FAISS
and NumPy work in it. Each call is a process of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scripts.bench.index.report import NAMES, cells, sections
from scripts.bench.index.work import control, make_roots, rebuild
from scripts.bench.report import JsonFile, ReportFile, new_facts, note, print_table, save
from search_stage.index.faiss_module import load_faiss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.bench.index.work import Spent
    from search_stage.index.layout import VectorType

TARGET_RATIO = 1.3
"""A rebuild of an index over a million items is to take at most that many times the control's time."""


def index(
    json_file: JsonFile,
    items: Annotated[int, typer.Option(min=2_000, help="Generated items.")] = 1_000_000,
    more: Annotated[int, typer.Option(min=0, help="Items added for the incremental rebuild.")] = 10_000,
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of a vector.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each kind; the least time counts.")] = 3,
    report: ReportFile = None,
) -> None:
    """Measures rebuilds, prints them beside the control, and writes all numbers as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        facts = new_facts(
            f"index --json FILE --items {items} --more {more} --dim {dim} --repeats {repeats}",
            work,
            data="generated",
            faiss=load_faiss().__version__,
        )
        note(f"making {items:,} items")
        make_roots(work, items, more, dim)
        note("timing")
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
    met = rows[0]["rebuild_over_control"] <= TARGET_RATIO
    facts |= {"target": {"rebuild_over_control": TARGET_RATIO, "met": met}, "rows": rows, "control": controls}
    save(facts, json_file, report, *sections(facts))
    print_table(NAMES, [cells(row) for row in rows])


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
