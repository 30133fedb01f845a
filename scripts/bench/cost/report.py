"""The dated report of a run, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import paragraph, rows_table
from scripts.bench.report import head

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = (
    "preset",
    "L",
    "C",
    "parameters",
    "not in tables",
    "MFLOPs",
    "inference, ms",
    "activations, MiB",
    "train, ms",
)


def sections(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Gives the sections of a report from what the JSON file holds."""
    return (
        head(
            "What presets cost",
            facts,
            "One made-up request of C candidates, each with the same L behaviors, tables of 16 dimensions, two",
            "targets, networks untrained and otherwise at their defaults (`scripts/bench/cost/world.py`). *MFLOPs*:",
            "matrix products and attention in its plain form, by torch's counter. *activations*: what the forward pass",
            "keeps for the backward pass, named parameters among it. *train*: forward, backward and an AdamW step over",
            "dense tables of 20,221 rows. Medians of up to five calls, one thread. A preset with a selection reads",
            "fewer than L behaviors. A dash: not measured, a million pairs at once are no training step.",
            torch=facts["torch"],
        ),
        rows_table(facts["rows"], _NAMES),
        "## LONGER: merge against the vanilla transformer",
        paragraph(
            "FLOPs of two layers, one candidate, G = 4 against G = 1, once with all tokens as queries of both layers",
            "and once with the newest 100 merged ones (400 rows of the vanilla one). The paper (arXiv 2505.04421) says",
            "-42.8 % for its sizes; a merged token is G times as wide, and its projections G * G times as large.",
        ),
        rows_table(facts["longer_merge"]),
        "## LONGER: a longer history with and without the cached user side",
        paragraph(
            "Throughput of 100 candidates of one user against that at the shortest history. The paper says -40 %",
            "without and -6.8 % with the cache, for its growth of the history.",
        ),
        rows_table(facts["longer_cache"]),
        "## Linear against quadratic attention",
        paragraph("Two layers of two heads over one list, one candidate; *MiB* is what is kept for the backward pass."),
        rows_table(facts["linear_against_quadratic"]),
    )
