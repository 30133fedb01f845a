"""The dated report of what training costs, from what its JSON file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import formatted, markdown_table, paragraph, rows_table
from scripts.bench.report import head, targets_section
from scripts.bench.train.loop import CANDIDATES as LOOP_CANDIDATES
from scripts.bench.train.loop import OWN, PLAIN, UNION
from scripts.bench.train.work import BEHAVIORS, CANDIDATES, PRESET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOOP_COLUMNS = {
    "preset": "{row[preset]}",
    "step, ms": "{row[step_ms][median]:.1f}",
    "least to most": "{row[step_ms][min]:.1f} to {row[step_ms][max]:.1f}",
    "examples/s": "{row[examples_per_s]:,.0f}",
    "pairs/s": "{row[pairs_per_s]:,.0f}",
    "over the plain loop": "{row[over_plain]:.2f}x",
    "peak, MiB": "{row[peak_rss_mib]:,.0f}",
}
MEMORY_COLUMNS = {
    "requests": "{row[requests]:,}",
    "files, MiB": "{row[files_mib]:,.1f}",
    "writing, MiB": "{row[writing_mib]:,.1f}",
    "training, MiB": "{row[training_mib]:,.1f}",
}
TABLES_COLUMNS = {
    "rows of a table": "{row[items]:,}",
    "tables": "{row[tables]}",
    "step, ms": "{row[step_ms][median]:.1f}",
    "least to most": "{row[step_ms][min]:.1f} to {row[step_ms][max]:.1f}",
    "of each round": "{row[rounds]}",
    "rows touched": "{row[touched_rows]:,.0f}",
    "peak, MiB": "{row[peak_rss_mib]:,.0f}",
    "training alone, MiB": "{row[training_mib]:,.0f}",
}


def tables_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Gives the cells of the table of steps by size of the tables."""
    rounds = [", ".join(f"{median:.1f}" for median in row["median_of_each_round_ms"]) for row in rows]
    return formatted(TABLES_COLUMNS, [{**row, "rounds": each} for row, each in zip(rows, rounds, strict=True)])


def sections(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Gives the sections of a report."""
    settings = facts["settings"]
    return (
        head(
            "What training costs",
            facts,
            "Generated requests, one thread, each training in a process of its own.",
            f"{settings['steps']} steps in each of {settings['rounds']} rounds, after {settings['warm_up']} that",
            f"do not count; a step has {settings['requests']} requests. An example is a candidate with its labels.",
            torch=facts["torch"],
        ),
        targets_section(facts["targets"]),
        "## The loop",
        paragraph(
            f"{LOOP_CANDIDATES} candidates a request, each with {OWN} behaviors of its own out of {UNION}; the",
            "training loop of `model_stage/training/trainer.py` over mapped files.",
            f"*{PLAIN.capitalize()}*, the control of `tin`: a padded copy of the history for every example, in memory,",
            "the formulas of `tin` written plainly over them, Adam as torch has it by default, no running average",
            "(`scripts/bench/train/plain.py`). *Peak* counts mapped files as long as they are in memory.",
        ),
        markdown_table(LOOP_COLUMNS, formatted(LOOP_COLUMNS, facts["loop"])),
        "## Memory by the number of examples",
        paragraph(
            "The largest anonymous memory of the process (`RssAnon`) while examples are made and written, and at the",
            "end of a step of preset `tin`, as many steps of either. The mapped files are not in it: they are in the",
            "page cache, which the kernel takes back when something else needs the memory.",
        ),
        markdown_table(MEMORY_COLUMNS, formatted(MEMORY_COLUMNS, facts["memory"])),
        "## A step, by size of the tables",
        paragraph(
            f"A network of preset `{PRESET}` with two tree tables of 16 dimensions; {CANDIDATES} candidates and",
            f"{BEHAVIORS} behaviors a request, all nodes as likely as any other; `tables: touched` and, as the",
            "control, `tables: dense`.",
            "*Rows touched*: distinct rows of a tree table that a step reads. *Peak*: largest resident memory of",
            "the process; *training alone*: what training adds to the largest before it, with network and requests",
            "made: gradients, moments, the running average, and at the end the copy of the best epoch.",
        ),
        markdown_table(TABLES_COLUMNS, tables_cells(facts["rows"])),
        "## Dense over touched",
        rows_table(facts["ratios"], ("rows of a table", "time of a step", "memory of training alone")),
    )
