"""A run as tables, as a dated report and as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.bench.markdown import markdown_table, paragraph
from scripts.bench.report import head
from store.terminal import new_figure, save_figure, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.table import Table

    from scripts.load.measures import Row

LATE_SHARE = 0.2
"""Senders that are late by more than this share of the times they measure are too few."""
_TABLES = {"stages": "stage", "results": "result", "kinds": "kind"}


def late_warning(facts: Mapping[str, Any]) -> str:
    """Says that the senders were the bottleneck, if they were; empty otherwise."""
    late = [
        row["stage"]
        for row in facts["stages"]
        if row["p99_ms"] is not None and row["lag_p99_ms"] > LATE_SHARE * row["p99_ms"]
    ]
    if not late:
        return ""
    return (
        f"in stage {', '.join(late)} the senders themselves were late by more than {LATE_SHARE:.0%} of p99: what is "
        "measured there is this machine; give --processes more, or run the load from another one"
    )


def result_tables(facts: Mapping[str, Any]) -> list[Table]:
    """Gives the tables to print."""
    return [
        table(*_heads(facts[name]), rows=map(_cells, facts[name]), right=set(_heads(facts[name])) - {first})
        for name, first in _TABLES.items()
    ]


def report_sections(facts: Mapping[str, Any], plot: Path | None) -> list[str]:
    """Gives the parts of a dated report."""
    about = paragraph(
        "Open loop: the times of all requests were drawn beforehand, and a request's time counts from then.",
        "Good is an answer in time that is not degraded. Percentiles are of good answers and exact.",
    )
    sections = [head(f"load on {facts['what']}", facts, about)]
    sections += [markdown_table(_heads(facts[name]), list(map(_cells, facts[name]))) for name in _TABLES]
    if facts["reasons"]:
        rows = [(text, f"{count:,}") for text, count in facts["reasons"].items()]
        sections.append(markdown_table(("what stood beside a result", "times"), rows))
    if warning := late_warning(facts):
        sections.append(paragraph(f"Attention: {warning}."))
    if plot is not None:
        sections.append(f"![the run second by second]({plot.name})")
    return sections


def _heads(rows: Sequence[Row]) -> list[str]:
    return [name.replace("_per_s", "/s").replace("p999", "p99.9").replace("_", " ") for name in rows[0]]


def _cells(row: Row) -> list[str]:
    return [_cell(name, value) for name, value in row.items()]


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1%}" if name.endswith("share") else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def draw(facts: Mapping[str, Any], path: Path) -> None:
    """Draws rates, times and memory over the seconds of the run.

    Raises:
        MatplotlibMissingError: matplotlib is not installed.
        StoreIOError: The file cannot be written.
    """
    seconds, memory = facts["seconds"], facts["memory"]
    panels = 3 if memory["second"] else 2
    figure = new_figure(10, 3 * panels)
    axes = figure.subplots(panels, 1, sharex=True)
    bounds = [*seconds["second"], len(seconds["second"])]
    for name, color in (("offered", "0.7"), ("good", "C2"), ("degraded", "C1"), ("refused", "C0"), ("failed", "C3")):
        if any(seconds[name]):
            axes[0].stairs(seconds[name], bounds, label=name, color=color, linewidth=3 if name == "offered" else 1.5)
    axes[0].set_ylabel("requests a second")
    for name in ("p50_ms", "p99_ms"):
        values = [np.nan if value is None else value for value in seconds[name]]
        axes[1].stairs(values, bounds, label=name.removesuffix("_ms"), baseline=None)
    axes[1].set_yscale("log")
    axes[1].set_ylabel("good answers, ms")
    if panels == 3:
        axes[2].plot(memory["second"], memory["rss_mib"], label="servers")
        axes[2].set_ylabel("memory, MiB")
        axes[2].set_ylim(0, 1.2 * max(memory["rss_mib"]))
    axes[-1].set_xlabel("second of the run")
    for panel in axes:
        panel.grid(visible=True, alpha=0.3)
        panel.legend(loc="upper left")
    figure.suptitle(facts["what"])
    save_figure(figure, path)
