"""The dated report of a run, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import markdown_table, paragraph
from scripts.bench.train.work import BEHAVIORS, CANDIDATES, PRESET

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = (
    "rows of a table",
    "tables",
    "step, ms",
    "least to most",
    "of each round",
    "rows touched",
    "peak, MiB",
    "training alone, MiB",
)


def write_report(facts: Mapping[str, Any]) -> str:
    """Gives the text of a report from what the JSON file holds."""
    machine, settings = facts["machine"], facts["settings"]
    return "\n\n".join(
        (
            f"# {facts['date']} What a training step costs, by size of the tables",
            paragraph(f"Command: `{facts['command']}`. All numbers are in the JSON file beside this one."),
            paragraph(
                f"Generated requests and a network of preset `{PRESET}` with two tree tables of 16 dimensions; a step",
                f"has {settings['requests']} requests of {CANDIDATES} candidates and {BEHAVIORS} behaviors, all nodes",
                "as likely as any other. The training loop of `model_stage/training/trainer.py` with `tables: touched`",
                "and, as the control, `tables: dense`, in turns, each in a process of its own, one thread.",
                f"{settings['steps']} steps in each of {settings['rounds']} rounds, after {settings['warm_up']} that",
                "do not count; the median over all, and that of each round.",
            ),
            paragraph(
                "*Rows touched*: distinct rows of a tree table that a step reads. *Peak*: largest resident memory of",
                "the process; *training alone*: what training adds to the largest before it, with network and requests",
                "made: gradients, moments, the running average, and at the end the copy of the best epoch.",
            ),
            paragraph(
                f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB,",
                f"{machine['kernel']}; load average {machine['load_average']} before. Python {machine['python']},",
                f"torch {facts['torch']}.",
            ),
            markdown_table(_NAMES, [_cells(row) for row in facts["rows"]]),
            "## Dense over touched",
            markdown_table(
                ("rows of a table", "time of a step", "memory of training alone"),
                [
                    (f"{row['items']:,}", f"{row['dense_over_touched']:.2f}", f"{row['memory_over_touched']:.2f}")
                    for row in facts["ratios"]
                ],
            )
            + "\n",
        )
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
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
