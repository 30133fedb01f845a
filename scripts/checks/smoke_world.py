"""A small world in which attention has something to find that hard search cannot: the one of `make train-smoke`.

Every leaf of the tree has a hidden partner under another parent. What speaks for an ad is how often its leaf's partner
was bought, and with which tone (a field of behaviors, +1 or -1, that follows from nothing):

    logit = -1.5 + 0.8 log(1 + n) + 1.5 (sum of the n tones) / sqrt(n)        n = behaviors of the partner so far

A mean over all behaviors cannot know which tone belongs to the partner, so attention has to find it; and the tree says
nothing of partners, so hard search finds nothing of worth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from scripts.datasets.output import write_dataset
from store.types import DAY_MS

if TYPE_CHECKING:
    from pathlib import Path

PARENTS, LEAVES = 5, 20
ITEMS = 5
"""Of each leaf."""
USERS, BEHAVIORS = 400, 80
"""Behaviors of each user, over `DAYS` days."""
DAYS, FIRST_REQUEST_DAY = 360, 60
REQUESTS, CANDIDATES = 3000, 5
START_MS = 1_704_067_200_000
VALIDATION, TEST = 0.70, 0.85
"""Where in time the splits begin, as shares of the days with requests."""


def write_smoke_world(out: Path, seed: int = 0) -> None:
    """Writes the world as a dataset directory; the same seed gives the same files."""
    draw = np.random.default_rng(seed)
    leaf_parent = np.arange(LEAVES) % PARENTS
    partner = _partners(draw)
    interest = draw.dirichlet(np.full(LEAVES, 0.25), USERS)
    leaf = np.stack([draw.choice(LEAVES, BEHAVIORS, p=each) for each in interest])
    day = np.sort(draw.random((USERS, BEHAVIORS)) * DAYS, axis=1)
    tone = 2 * draw.integers(0, 2, (USERS, BEHAVIORS)) - 1
    user = np.repeat(draw.integers(0, USERS, REQUESTS), CANDIDATES)
    asked_day = np.repeat(FIRST_REQUEST_DAY + draw.random(REQUESTS) * (DAYS - FIRST_REQUEST_DAY), CANDIDATES)
    asked = np.stack([draw.permutation(LEAVES)[:CANDIDATES] for _ in range(REQUESTS)]).ravel()
    matches = (leaf[user] == partner[asked][:, None]) & (day[user] < asked_day[:, None])
    number = matches.sum(axis=1)
    toned = (matches * tone[user]).sum(axis=1) / np.sqrt(np.maximum(number, 1))
    chance = 1.0 / (1.0 + np.exp(1.5 - 0.8 * np.log1p(number) - 1.5 * toned))
    item = leaf * ITEMS + draw.integers(0, ITEMS, leaf.shape)
    split_days = FIRST_REQUEST_DAY + np.array([VALIDATION, TEST]) * (DAYS - FIRST_REQUEST_DAY)
    tables = {
        "taxonomy": pa.table(
            {
                "category": [*(f"p{at}" for at in range(PARENTS)), *(f"l{at}" for at in range(LEAVES))],
                "parent": [*([None] * PARENTS), *(f"p{at}" for at in leaf_parent)],
            }
        ),
        "items": pa.table(
            {
                "item": [*(f"i{at}" for at in range(LEAVES * ITEMS)), *(f"ad{at}" for at in range(LEAVES))],
                "category": [*(f"l{at // ITEMS}" for at in range(LEAVES * ITEMS)), *(f"l{at}" for at in range(LEAVES))],
            }
        ),
        "behaviors": pa.table(
            {
                "user": [f"u{at}" for at in np.repeat(np.arange(USERS), BEHAVIORS)],
                "item": [f"i{at}" for at in item.ravel()],
                "category": [f"l{at}" for at in leaf.ravel()],
                "domain": ["shop"] * leaf.size,
                "action": ["buy"] * leaf.size,
                "timestamp_ms": _ms(day.ravel()),
                "tone": [f"t{at}" for at in tone.ravel()],
            }
        ),
        "impressions": pa.table(
            {
                "user": [f"u{at}" for at in user],
                "item": [f"ad{at}" for at in asked],
                "timestamp_ms": _ms(asked_day),
                "label_click": (draw.random(len(chance)) < chance).astype(np.int64),
            }
        ),
    }
    first_ms = _ms(split_days).tolist()
    splits = {"validation_from_ms": first_ms[0], "test_from_ms": first_ms[1]}
    write_dataset(out, tables, {name: each.num_rows for name, each in tables.items()}, splits=splits)


def _partners(draw: np.random.Generator) -> np.ndarray:
    """Gives each leaf another one, each other's partner, of another parent."""
    partner = np.empty(LEAVES, np.int64)
    while True:
        ring = draw.permutation(LEAVES)
        ones, others = ring[: LEAVES // 2], ring[LEAVES // 2 :]
        if (ones % PARENTS != others % PARENTS).all():
            break
    partner[ones], partner[others] = others, ones
    return partner


def _ms(days: np.ndarray) -> np.ndarray:
    return START_MS + (days * DAY_MS).astype(np.int64)
