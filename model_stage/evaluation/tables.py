"""Answers as tables for people: a ranking, and the behaviors behind one candidate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from rich.markup import escape
from rich.table import Table

from store.retrieval import NO_LEVEL, SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.types import ExplainResult, RankResult

WEIGHT_TOLERANCE = 1e-4
"""Up to it a sum of float32 weights is 1."""
_SOURCES = ((SOURCE_HARD, "hard"), (SOURCE_SOFT, "soft"), (SOURCE_RECENT, "recent"))


def ranking_table(result: RankResult, names: Sequence[str], rows: int = 10) -> Table:
    """Gives the candidates by descending probability of the first target."""
    state = f"degraded: {result.degraded_reason}" if result.degraded else f"{result.num_behaviors:,} behaviors"
    if result.ancestors_reason:
        state += f"; categories that the bundle lacks count as unknown: {result.ancestors_reason}"
    table = Table(title=f"ranking of {len(names)} candidates ({state})", title_justify="left")
    for column in ("candidate", *(f"P({target})" for target in result.targets), "retrieved"):
        table.add_column(column, justify="left" if column == "candidate" else "right")
    order = np.argsort(-result.probability[:, 0], kind="stable")
    for at in map(int, order[:rows]):
        chances = (f"{value:.4f}" for value in result.probability[at])
        table.add_row(names[at], *chances, str(result.num_retrieved[at]))
    if len(order) > rows:
        table.caption = f"and {len(order) - rows} more"
    return table


def explanation_table(explained: ExplainResult, rows: int = 10, *, scores: bool = False) -> Table:
    """Gives the behaviors behind one candidate, those with the most attention for the first target first.

    Args:
        explained: The explanation.
        rows: Behaviors to show.
        scores: Whether to show what soft search orders by, and the side-info of the behaviors, too.
    """
    fields = list(explained.behaviors[0].side_info) if scores and explained.behaviors else []
    table = Table(title=f"behind candidate {explained.candidate_name}", title_justify="left")
    attention = [f"attention {target}" for target in explained.targets]
    shown = ("item", "category", "stream", "date", "level", "source")
    for column in (*shown, *map(escape, fields), *(["score"] if scores else []), *attention):
        table.add_column(column, justify="right" if column in (*attention, "level", "score") else "left")
    ordered = sorted(explained.behaviors, key=lambda behavior: -behavior.attention[0])
    for behavior in ordered[:rows]:
        table.add_row(
            behavior.item_name,
            behavior.category_name or "unmapped",
            "/".join((behavior.domain, behavior.action, *([behavior.scene] if behavior.scene else []))),
            f"{datetime.fromtimestamp(behavior.timestamp_ms / 1000, UTC):%Y-%m-%d}",
            "-" if behavior.match_level == NO_LEVEL else str(behavior.match_level),
            "+".join(name for bit, name in _SOURCES if behavior.source & bit),
            *(_side_text(behavior.side_info[field]) for field in fields),
            *([f"{behavior.score:.3g}"] if scores else []),
            *(f"{weight:.3f}" for weight in behavior.attention),
        )
    if len(ordered) > rows:
        table.caption = f"and {len(ordered) - rows} more"
    return table


def _side_text(value: str | float | None) -> str:
    if value is None:
        return "-"
    return escape(value) if isinstance(value, str) else f"{value:g}"


def contribution_table(explained: ExplainResult) -> Table:
    """Gives probability and logit of each target, and what each part of the input adds to the logit."""
    table = Table(title="logit, and what it is with each part less what it is without it", title_justify="left")
    table.add_column("part")
    for target in explained.targets:
        table.add_column(target, justify="right")
    table.add_row("probability", *(f"{value:.4f}" for value in explained.probability))
    table.add_row("logit", *(f"{value:.3f}" for value in explained.logit))
    table.add_section()
    for each in explained.contributions:
        table.add_row(each.part, *(f"{value:+.3f}" for value in each.logit))
    table.caption = "parts act together: they need not sum to the logit"
    return table


def attention_lines(explained: ExplainResult) -> list[str]:
    """Says of each target whether the attention weights of the behaviors sum to 1, and what went elsewhere if not."""
    if not explained.behaviors:
        return ["no behavior was retrieved: there is no attention"]
    lines = []
    for target, total in zip(explained.targets, explained.attention_sums, strict=True):
        rest = 1.0 - total
        verdict = "sums to 1" if abs(rest) <= WEIGHT_TOLERANCE else f"{rest:+.6f} is on what is no behavior"
        lines.append(f"attention of {target}: {total:.6f} over {len(explained.behaviors)} behaviors, {verdict}")
    return lines
