"""The dated report of a run, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import markdown_table, paragraph, rows_table
from scripts.bench.report import head
from scripts.bench.train.work import BEHAVIORS, CANDIDATES, PRESET

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = (
    "rows of a table",
    "tables",
    "step, ms",
    "least to most",
    "of each round",
    "rows touched",
    "peak, MiB",
    "training alone, MiB",
)


def sections(facts: Mapping[str, Any]) -> tuple[str, ...]:
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
        markdown_table(NAMES, [cells(row) for row in facts["rows"]]),
        "## Dense over touched",
        rows_table(facts["ratios"], ("rows of a table", "time of a step", "memory of training alone")),
    )


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Gives a row as it is printed, under `NAMES`."""
    spread = row["step_ms"]
    return (
        f"{row['items']:,}",
        row["tables"],
        f"{spread['median']:.1f}",
        f"{spread['min']:.1f} to {spread['max']:.1f}",
        ", ".join(f"{median:.1f}" for median in row["median_of_each_round_ms"]),
        f"{row['touched_rows']:,.0f}",
        f"{row['peak_rss_mib']:,.0f}",
        f"{row['training_mib']:,.0f}",
    )
