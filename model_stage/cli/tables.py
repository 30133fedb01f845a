"""Answers and numbers as tables for people: a ranking, the behaviors behind one candidate, metrics, presets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from store.retrieval import NO_LEVEL, SOURCE_NAMES
from store.terminal import field_text, more_text, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from model_stage.types import ExplainResult, RankResult

WEIGHT_TOLERANCE = 1e-4
"""Up to it a sum of float32 weights is 1."""


def ranking_table(result: RankResult, names: Sequence[str], rows: int = 10) -> Table:
    """Gives the candidates by descending probability of the first target."""
    state = f"degraded: {result.degraded_reason}" if result.degraded else f"{result.num_behaviors:,} behaviors"
    if result.ancestors_reason:
        state += f"; categories that the bundle lacks count as unknown: {result.ancestors_reason}"
    if result.missing:
        state += f"; without {', '.join(result.missing)}, which the bundle learned from"
    chances = tuple(f"P({target})" for target in result.targets)
    order = np.argsort(-result.probability[:, 0], kind="stable")
    return table(
        *("candidate", *chances, "retrieved"),
        rows=(
            (names[at], *(f"{value:.4f}" for value in result.probability[at]), int(result.num_retrieved[at]))
            for at in map(int, order[:rows])
        ),
        title=f"ranking of {len(names)} candidates ({state})",
        caption=more_text(len(order), rows),
        right=(*chances, "retrieved"),
    )


def difference_lines(differences: Sequence[str]) -> list[str]:
    """Says in what search is configured otherwise than where the bundle was trained."""
    return [f"search is not configured as in training: {each}" for each in differences]


def explanation_table(explained: ExplainResult, rows: int = 10, *, scores: bool = False) -> Table:
    """Gives the behaviors behind one candidate, those with the most attention for the first target first.

    Args:
        explained: The explanation.
        rows: Behaviors to show.
        scores: Whether to show what soft search orders by, and the side-info of the behaviors, too.
    """
    fields = list(explained.behaviors[0].side_info) if scores and explained.behaviors else []
    score = ("score",) if scores else ()
    attention = tuple(f"attention {target}" for target in explained.targets)
    ordered = sorted(explained.behaviors, key=lambda behavior: -behavior.attention[0])
    return table(
        *("item", "category", "stream", "date", "level", "source", *fields, *score, *attention),
        rows=(
            (
                each.item_name,
                each.category_name or "unmapped",
                "/".join((each.domain, each.action, *([each.scene] if each.scene else []))),
                f"{datetime.fromtimestamp(each.timestamp_ms / 1000, UTC):%Y-%m-%d}",
                "-" if each.match_level == NO_LEVEL else str(each.match_level),
                "+".join(name for bit, name in SOURCE_NAMES if each.source & bit),
                *(field_text(each.side_info[field]) for field in fields),
                *(f"{each.score:.3g}" for _ in score),
                *(f"{weight:.3f}" for weight in each.attention),
            )
            for each in ordered[:rows]
        ),
        title=f"behind candidate {explained.candidate_name}",
        caption=more_text(len(ordered), rows),
        right=("level", *score, *attention),
    )


def contribution_table(explained: ExplainResult) -> Table:
    """Gives probability and logit of each target, and what each part of the input adds to the logit."""
    return table(
        *("part", *explained.targets),
        rows=(
            ("probability", *(f"{value:.4f}" for value in explained.probability)),
            ("logit", *(f"{value:.3f}" for value in explained.logit)),
            *((each.part, *(f"{value:+.3f}" for value in each.logit)) for each in explained.contributions),
        ),
        title="logit, and what it is with each part less what it is without it",
        caption="parts act together: they need not sum to the logit",
        right=tuple(explained.targets),
    )


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


def metrics_table(split: str, metrics: Mapping[str, Mapping[str, float]]) -> Table:
    """Gives the numbers of each target; log loss and calibration error as answered, and before the calibration."""
    return table(
        *("split", "target", "AUC", "GAUC", "log loss", "calibration error", "positives", "impressions"),
        rows=(
            (
                split,
                target,
                *(f"{values[key]:.4f}" for key in ("auc", "gauc")),
                *(f"{values[key]:.5f} ({values[f'{key}_uncalibrated']:.5f})" for key in ("logloss", "ece")),
                *(round(values[key]) for key in ("positives", "impressions")),
            )
            for target, values in metrics.items()
        ),
    )


def coverage_table(coverage: Mapping[str, float]) -> Table:
    """Gives the share of impressions that have a value of each field."""
    return table(
        *("field", "impressions with a value"),
        rows=((name, f"{share:.1%}") for name, share in coverage.items()),
        right=("impressions with a value",),
    )


def presets_table() -> Table:
    """Gives a line for each packaged preset: what it is, the kinds of its blocks, and which tables training teaches."""
    from model_stage.networks.preset import load_preset, preset_names

    presets = {name: load_preset(name) for name in preset_names()}
    return table(
        *("preset", "summary", "blocks", "tables"),
        rows=(
            (
                name,
                preset.summary,
                ", ".join(block.kind for block in preset.blocks) or "none",
                "attention + representation" if preset.reads_attention else "representation",
            )
            for name, preset in presets.items()
        ),
    )
