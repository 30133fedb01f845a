"""A data set whose labels follow from the past, as strongly as asked: what the recall report is tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from store import ingest
from store.behavior_store import BehaviorStore
from tests.worlds.datasets import write_dataset
from tests.worlds.search import behavior, write_export

if TYPE_CHECKING:
    from pathlib import Path

NUM_USERS = 48
NUM_CATEGORIES = 6
ITEMS_PER_CATEGORY = 4
LENGTH = 30
TEST_FROM_MS = 10_000


def write_world(folder: Path, signal: float, *, impressions: bool = True) -> Path:
    """Writes a data set of two top categories with three each; gives its folder.

    Args:
        folder: Where.
        signal: Share of the labels that follow the truth, "yes if a quarter of the past is of the candidate's top
            category's half that the user likes"; the others are coin flips.
        impressions: Whether it has any.
    """
    generator = np.random.default_rng(3)
    behaviors: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for user in range(NUM_USERS):
        likes = user % 2
        for at in range(LENGTH):
            of_liked = generator.random() < 0.7
            category = 3 * (likes if of_liked else 1 - likes) + int(generator.integers(3))
            item = 100 * (category + 1) + int(generator.integers(ITEMS_PER_CATEGORY))
            behaviors.append(behavior(user, item, 1 + 100 * at, domain="content" if at % 3 else "ads"))
        for time in (5_000, TEST_FROM_MS):
            for category in range(NUM_CATEGORIES):
                truth = category // 3 == likes
                label = truth if generator.random() < signal else generator.random() < 0.5
                row = {"user": user, "item": 100 * (category + 1), "timestamp_ms": time, "label_buy": int(label)}
                shown.append({**row, "label_rare": 0})
    return write_dataset(
        folder,
        behaviors=behaviors,
        taxonomy=[
            *({"category": 1000 + top, "parent": None} for top in range(2)),
            *({"category": c + 1, "parent": 1000 + c // 3} for c in range(NUM_CATEGORIES)),
        ],
        items=[
            {"item": 100 * (c + 1) + i, "category": c + 1}
            for c in range(NUM_CATEGORIES)
            for i in range(ITEMS_PER_CATEGORY)
        ],
        impressions=shown if impressions else None,
    )


def build_world(folder: Path, signal: float, *, impressions: bool = True) -> tuple[BehaviorStore, Path, Path]:
    """Gives the store of such a data set, the data set's folder and an export of vectors that know the top category."""
    dataset = write_world(folder / "dataset", signal, impressions=impressions)
    ingest(dataset, folder / "store", replace=True)
    generator = np.random.default_rng(4)
    tops = {top: generator.normal(size=8) for top in range(2)}
    vectors = {c + 1: (tops[c // 3] + 0.1 * generator.normal(size=8)).tolist() for c in range(NUM_CATEGORIES)}
    export = write_export(folder / "model", vectors, {})
    return BehaviorStore.open(folder / "store"), dataset, export
