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

from scripts.bench.index.work import control, make_roots, rebuild
from scripts.bench.markdown import formatted, markdown_table, paragraph
from scripts.bench.report import ReportFile, finish, head, new_facts, note
from scripts.bench.timing import in_child
from search_stage.index.faiss_module import load_faiss
from store.command import JsonOption
from store.terminal import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.bench.index.work import Spent
    from search_stage.index.layout import VectorType

TARGET_RATIO = 1.3
"""A rebuild of an index over a million items is to take at most that many times the control's time."""
_SIXTEEN_BITS: tuple[VectorType, ...] = ("float16", "bfloat16")
_COLUMNS = {
    "rebuild": "{row[what]}",
    "s": "{row[rebuild_s]:.2f}",
    "control, s": "{row[control_s]:.2f}",
    "ratio": "{row[rebuild_over_control]:.2f}",
    "ratio of CPU": "{row[cpu_over_control]:.2f}",
    "peak, MiB": "{row[peak_rss_mib]:,.0f}",
    "rows": "{row[rows]:,.0f}",
    "carried over": "{row[carried]:,.0f}",
    "recall@50": "{row[recall_at_50]:.3f}",
    "scored": "{row[scored]:.3f}",
}


def index(
    items: Annotated[int, typer.Option(min=2_000, help="Generated items.")] = 1_000_000,
    more: Annotated[int, typer.Option(min=0, help="Items added for the incremental rebuild.")] = 10_000,
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of a vector.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each kind; the least time counts.")] = 3,
    json_file: JsonOption = None,
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
            controls.append(in_child(control, work, dim))
            rebuilds.append(in_child(rebuild, work, "store", "float32", True))
        halves = [(dtype, in_child(rebuild, work, "store", dtype, True)) for dtype in _SIXTEEN_BITS]
        grown = [in_child(rebuild, work, "next", "float32", False)]
    rows = [
        _row("float32, from nothing", rebuilds, controls),
        *(_row(f"{dtype}, from nothing", [spent], controls) for dtype, spent in halves),
        _row(f"float32, {more:,} items more", grown, controls),
    ]
    met = rows[0]["rebuild_over_control"] <= TARGET_RATIO
    facts |= {"target": {"rebuild_over_control": TARGET_RATIO, "met": met}, "rows": rows, "control": controls}
    finish(facts, _sections(facts), json_file, report, table(*_COLUMNS, rows=formatted(_COLUMNS, rows)))


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


def _sections(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Gives the sections of a report from what the JSON file holds."""
    target, first = facts["target"], facts["rows"][0]
    met = "met" if target["met"] else "**not met**"
    top = head(
        "Rebuild of an index",
        facts,
        "A generated export and store; rebuilds from nothing in every stored type, and one on top of the index before,",
        "after items were added. The control, alternating with the rebuilds: the bare FAISS and NumPy work in it. Each",
        "call is a process of its own; the least time of the repeats counts. Loading libraries is in neither: FAISS is",
        f"imported, and the kernels of a rebuild are loaded ({first['loading_s']:.2f} s) before the clock starts.",
        faiss=facts["faiss"],
    )
    bar = paragraph(
        f"To reach: a rebuild in at most {target['rebuild_over_control']:g} times the control's time;",
        f"measured {first['rebuild_over_control']:.2f} ({first['cpu_over_control']:.2f} of CPU time): {met}.",
        f"All rebuilds of that kind took {', '.join(f'{seconds:.2f}' for seconds in first['all_s'])} s.",
    )
    return (
        top,
        bar,
        markdown_table(_COLUMNS, formatted(_COLUMNS, facts["rows"])),
        "*scored*: share of the vectors that the approximate path looks at; *recall@50* is what it finds.",
        "Where the time of the first row goes, seconds:",
        markdown_table(("part", "s"), [(name, f"{seconds:.2f}") for name, seconds in first["parts_s"].items()]),
    )
