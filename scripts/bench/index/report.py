"""The dated report of a run, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import markdown_table, paragraph
from scripts.bench.report import head

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = (
    "rebuild",
    "s",
    "control, s",
    "ratio",
    "ratio of CPU",
    "peak, MiB",
    "rows",
    "carried over",
    "recall@50",
    "scored",
)


def sections(facts: Mapping[str, Any]) -> tuple[str, ...]:
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
        markdown_table(NAMES, [cells(row) for row in facts["rows"]]),
        "*scored*: share of the vectors that the approximate path looks at; *recall@50* is what it finds.",
        "Where the time of the first row goes, seconds:",
        markdown_table(("part", "s"), [(name, f"{seconds:.2f}") for name, seconds in first["parts_s"].items()]),
    )


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Gives a row as it is printed, under `NAMES`."""
    seconds = (f"{row[key]:.2f}" for key in ("rebuild_s", "control_s", "rebuild_over_control", "cpu_over_control"))
    counts = (f"{row[key]:,.0f}" for key in ("peak_rss_mib", "rows", "carried"))
    return (row["what"], *seconds, *counts, f"{row['recall_at_50']:.3f}", f"{row['scored']:.3f}")
