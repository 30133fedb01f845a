"""The dated report of a run, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import markdown_table, paragraph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def write_report(facts: Mapping[str, Any]) -> str:
    """Gives the text of a report from what the JSON file holds."""
    machine = facts["machine"]
    parts = (
        f"# {facts['date']} What presets cost",
        paragraph(f"Command: `{facts['command']}`. All numbers are in the JSON file beside this one."),
        paragraph(
            "One made-up request of C candidates, each with the same L behaviors, tables of 16 dimensions, two",
            "targets, networks untrained and otherwise at their defaults (`scripts/bench/cost/world.py`). *MFLOPs*:",
            "matrix products and attention in its plain form, by torch's counter. *activations*: what the forward pass",
            "keeps for the backward pass, named parameters among it. *train*: forward, backward and an AdamW step over",
            "dense tables of 20,221 rows. Medians of up to five calls, one thread. A preset with a selection reads",
            "fewer than L behaviors. A dash: not measured, a million pairs at once are no training step.",
        ),
        paragraph(
            f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB,",
            f"{machine['kernel']}; load average {machine['load_average']} before. Python {machine['python']},",
            f"torch {facts['torch']}.",
        ),
        markdown_table(
            (
                "preset",
                "L",
                "C",
                "parameters",
                "not in tables",
                "MFLOPs",
                "inference, ms",
                "activations, MiB",
                "train, ms",
            ),
            [_cells(row) for row in facts["rows"]],
        ),
        "## LONGER: merge against the vanilla transformer",
        paragraph(
            "FLOPs of two layers, one candidate, G = 4 against G = 1, once with all tokens as queries of both layers",
            "and once with the newest 100 merged ones (400 rows of the vanilla one). The paper (arXiv 2505.04421) says",
            "-42.8 % for its sizes; a merged token is G times as wide, and its projections G * G times as large.",
        ),
        _plain(facts["longer_merge"]),
        "## LONGER: a longer history with and without the cached user side",
        paragraph(
            "Throughput of 100 candidates of one user against that at the shortest history. The paper says -40 %",
            "without and -6.8 % with the cache, for its growth of the history.",
        ),
        _plain(facts["longer_cache"]),
        "## Linear against quadratic attention",
        paragraph("Two layers of two heads over one list, one candidate; *MiB* is what is kept for the backward pass."),
        _plain(facts["linear_against_quadratic"]),
    )
    return "\n\n".join(parts) + "\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [row["preset"], *(_number(value) for name, value in row.items() if name != "preset")]


def _plain(rows: Sequence[Mapping[str, Any]]) -> str:
    def cell(name: str, value: float) -> str:
        return f"{value:+.1%}" if "change" in name else _number(value)

    return markdown_table(tuple(rows[0]), [[cell(name, value) for name, value in row.items()] for row in rows])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
