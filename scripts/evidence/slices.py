"""Slices of a test split by what a user had done before the impression, made of the dataset alone."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from scripts.baselines.data import load_dataset
from scripts.baselines.features import LEVELS, NAMES, fourteen_numbers
from scripts.joins import count_before

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scripts.baselines.data import Dataset
    from store.types import F64, I64, Bool

COLD = 20
"""Behaviors before the impression of a cold user, at most."""
AGES_DAYS = (7, 30, 90)


def slices_of(data: Path) -> dict[str, Bool]:
    """Gives, by name, which rows of the test split of a dataset directory belong to each slice. (rows,) each."""
    dataset = load_dataset(data)
    time, splits = dataset.shown.timestamp_ms, dataset.splits
    test = np.flatnonzero(time >= splits.test_from_ms)
    numbers = fourteen_numbers(dataset)[test]
    earlier = dataset.shown.item[time < splits.validation_from_ms]
    new, length = ~np.isin(dataset.shown.item[test], earlier), _history_length(dataset)[test]
    level, age_days = _match(numbers)
    return {
        **_by_length(length),
        "cold user": length <= COLD,
        **{f"match level {at}": level == at for at in range(LEVELS + 1)},
        "no match": level < 0,
        **_by_age(age_days),
        "new item": new,
        "item of the training": ~new,
    }


def _history_length(dataset: Dataset) -> I64:
    """Gives how many interests and responses each impression's user had before it. (R,)."""
    shown = dataset.shown
    counts = (
        count_before(events.user, events.timestamp_ms, shown.user, shown.timestamp_ms)[0]
        for events in (dataset.interests, dataset.responses)
    )
    return sum(counts, np.zeros(len(shown.user), np.int64))


def _match(numbers: F64) -> tuple[I64, F64]:
    """Gives the finest level at which anything matches, -1 = none, and the age of the newest match there. (N,) both."""
    count, age = (
        np.stack([numbers[:, NAMES.index(f"level_{level}_{what}")] for level in range(LEVELS + 1)], axis=1)
        for what in ("count", "age_days")
    )
    level = np.where((count > 0).any(axis=1), (count > 0).argmax(axis=1), -1)
    return level, np.take_along_axis(age, np.maximum(level, 0)[:, None], axis=1)[:, 0]


def _by_length(length: I64) -> Mapping[str, Bool]:
    edges = np.unique(np.quantile(length, (0.25, 0.5, 0.75), method="lower")) if len(length) else np.empty(0)
    bounds = [-1, *edges.astype(int).tolist(), int(length.max(initial=0))]
    return {f"history {low + 1} to {high}": (length > low) & (length <= high) for low, high in pairwise(bounds)}


def _by_age(age_days: F64) -> Mapping[str, Bool]:
    bounds = [0, *AGES_DAYS, np.inf]
    return {
        f"last match {low:g} to {high:g} days" if np.isfinite(high) else f"last match {low:g} days or more": (
            age_days >= low
        )
        & (age_days < high)
        for low, high in pairwise(bounds)
    }
