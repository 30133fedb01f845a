"""Generates data in the input contract whose true probabilities are known; the same seed gives the same files.

    python -m scripts.generate --out work/generated

Three domains with trees of their own; a signal that sits anywhere in up to 20,000 behaviors and shows only through the
taxonomy; a pace of forgetting per target. docs/datasets.md describes it, `scripts/generate/truth.py` defines it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from model_stage.evaluation.metrics import auc, gauc
from scripts.datasets.output import write_dataset
from scripts.generate import tables
from scripts.generate.mechanisms import COEFFICIENT, NEEDLE, TAXONOMY, WORLDS, Mechanisms, draw_marks
from scripts.generate.truth import (
    FIRST_REQUEST_DAY,
    RECENT,
    TARGETS,
    Impressions,
    Matcher,
    draw_impressions,
    probability,
)
from scripts.generate.users import DAYS, START_MS, draw_behaviors, draw_counts, draw_interests
from scripts.generate.world import build_world
from store.errors import InputError
from store.terminal import say, table
from store.types import DAY_MS

if TYPE_CHECKING:
    from store.types import F64, I64

NEEDLE_FILE = "needle.parquet"
"""In the world of that name: the times of the behaviors that decide, for every impression of the test split."""
VALIDATION_DAY = FIRST_REQUEST_DAY + 0.70 * (DAYS - FIRST_REQUEST_DAY)
TEST_DAY = FIRST_REQUEST_DAY + 0.85 * (DAYS - FIRST_REQUEST_DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much to generate, and how strong a signal."""

    seed: int = 0
    users: int = 1500
    mean_behaviors: int = 1200
    requests: int = 10_000
    candidates: tuple[int, int] = (11, 20)
    signal: float = 1.0
    """Multiplies everything that tells impressions apart; 0 = labels are noise at the same rates."""
    world: str = TAXONOMY
    """What the truth holds besides matches in the taxonomy: see `scripts/generate/mechanisms.py`."""

    def __post_init__(self) -> None:
        if self.users < 2 or self.mean_behaviors < 10 or self.requests < 1 or self.signal < 0.0:
            raise InputError("expected users >= 2, mean behaviors >= 10, requests >= 1, signal >= 0")
        if not 1 <= self.candidates[0] <= self.candidates[1]:
            raise InputError("expected 1 <= least candidates <= most candidates")
        if self.world not in WORLDS:
            raise InputError(f"world: {self.world!r} is none of {', '.join(WORLDS)}")


def generate(settings: Settings, out: Path) -> dict[str, float]:
    """Writes a generated dataset directory, with `truth.parquet` and `truth.json`, and gives the content of the latter.

    Args:
        settings: What to generate.
        out: Dataset directory to write; replaced whole.
    """
    draw = np.random.default_rng(settings.seed)
    world = build_world(draw)
    counts = draw_counts(settings.users, settings.mean_behaviors, draw)
    interests = draw_interests(world, counts, draw)
    behaviors = draw_behaviors(world, interests, counts, draw)
    shown = draw_impressions(world, behaviors, interests, settings.requests, settings.candidates, draw)
    traits = tables.draw_traits(settings.users, len(world.items["ad"].leaf), draw)
    effects = traits.user_effect[shown.user] + traits.ad_effect[shown.ad]
    matcher, marks = Matcher(world, behaviors, shown), None
    mechanisms = None
    if settings.world == TAXONOMY:
        truth, less = _probabilities(matcher, effects, settings.signal)
    else:
        marks = draw_marks(world, behaviors.timestamp_ms, draw)
        mechanisms = Mechanisms(world, behaviors, shown, marks)
        added, known = mechanisms.of(settings.world), mechanisms.known(settings.world)
        truth, less = _with_mechanism(matcher, effects, added, known, settings.signal)
    labels = {name: (draw.random(len(p)) < p).astype(np.int64) for name, p in truth.items()}
    written = {
        "behaviors": tables.behaviors_table(world, behaviors, marks, draw),
        "taxonomy": tables.taxonomy_table(world),
        "bridges": tables.bridges_table(world),
        "items": tables.items_table(world, traits, marks),
        "users": tables.users_table(traits),
        "impressions": tables.impressions_table(world, behaviors, shown, labels),
    }
    written["truth"] = written["impressions"].select(["user", "item", "timestamp_ms"])
    if marks is not None and mechanisms is not None and settings.world == NEEDLE:
        test = np.flatnonzero(shown.timestamp_ms >= _splits()["test_from_ms"])
        written["needle"] = tables.needle_table(written["truth"], mechanisms.needles(), behaviors, test)
        written["item_vectors"] = tables.style_vectors_table(world, marks, draw)
    for name, p in truth.items():
        written["truth"] = written["truth"].append_column(f"p_{name}", pa.array(p))
    report = _report(shown, labels, truth, less, f"last_{RECENT}" if marks is None else f"without_{settings.world}")
    num_rows = {name: table.num_rows for name, table in written.items()}
    write_dataset(out, written, num_rows, splits=_splits(), truth=report)
    return report


def _probabilities(matcher: Matcher, effects: F64, signal: float) -> tuple[dict[str, F64], dict[str, F64]]:
    """Gives the true probabilities per target, and those computed from the newest behaviors only."""
    truth: dict[str, F64] = {}
    short_sighted: dict[str, F64] = {}
    for target in TARGETS:
        match = matcher.match(target.memory_days)
        recent = matcher.match(target.memory_days, newest=RECENT)
        truth[target.name] = probability(target, match, match, effects, signal)
        short_sighted[target.name] = probability(target, recent, match, effects, signal)
    return truth, short_sighted


def _with_mechanism(
    matcher: Matcher, effects: F64, added: dict[str, F64], known: dict[str, F64] | None, signal: float
) -> tuple[dict[str, F64], dict[str, F64]]:
    """Gives the true probabilities per target, and those of a scorer that knows all but the mechanism.

    Args:
        matcher: Gives what is near.
        effects: Of user and ad together. (R,)
        added: The mechanism, by target. (R,) each
        known: What that scorer knows of it; None = nothing.
        signal: 0 = every probability is the target's rate.
    """
    truth: dict[str, F64] = {}
    without: dict[str, F64] = {}
    for target in TARGETS:
        match = matcher.match(target.memory_days)
        truth[target.name] = probability(target, match, match, effects + COEFFICIENT * added[target.name], signal)
        seen = 0.0 if known is None else COEFFICIENT * known[target.name]
        without[target.name] = probability(target, match, match, effects + seen, signal)
    return truth, without


def _splits() -> dict[str, int]:
    days = {"train_from_ms": float(FIRST_REQUEST_DAY), "validation_from_ms": VALIDATION_DAY, "test_from_ms": TEST_DAY}
    return {name: START_MS + int(day * DAY_MS) for name, day in days.items()}


def _report(
    shown: Impressions, labels: dict[str, I64], truth: dict[str, F64], less: dict[str, F64], lack: str
) -> dict[str, float]:
    """Gives AUC and GAUC that the true probabilities reach on the test split: nothing can do better on average.

    And those that the probabilities of a scorer who knows less reach, under a name that ends in `lack`.
    """
    test = shown.timestamp_ms >= _splits()["test_from_ms"]
    user = shown.user[test]
    report: dict[str, float] = {}
    for name, label in labels.items():
        report[f"{name}_rate"] = float(label.mean())
        for seen, p in (("ceiling", truth[name]), (f"ceiling_{lack}", less[name])):
            report[f"{name}_auc_{seen}"] = auc(label[test], p[test])
            report[f"{name}_gauc_{seen}"] = gauc(label[test], p[test], user)
    return report


def print_report(report: dict[str, float]) -> None:
    """Prints what the true probabilities reach on the test split."""
    rows = [(name, f"{value:.4f}") for name, value in report.items()]
    say(table("on the test split", "value", rows=rows, title="Generated data: the ceiling", right=["value"]))
