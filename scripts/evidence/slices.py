"""Slices of a test split by what a user had done before the impression, made of the dataset alone: for trees, too.

The cuts are those of every report: `model_stage/evaluation/slices.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_stage.evaluation.slices import RowFacts
from model_stage.evaluation.slices import slices_of as cut
from scripts.baselines.data import load_dataset
from scripts.baselines.features import LEVELS, NAMES, fourteen_numbers
from scripts.joins import count_before
from store.retrieval import NO_LEVEL
from store.types import DAY_MS

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.baselines.data import Dataset
    from store.types import F64, I64, U8, Bool


def slices_of(data: Path) -> dict[str, Bool]:
    """Gives, by kind and label, which rows of the test split of a dataset directory are in each slice. (rows,) each."""
    dataset = load_dataset(data)
    shown, splits = dataset.shown, dataset.splits
    test = np.flatnonzero(shown.timestamp_ms >= splits.test_from_ms)
    learned = shown.timestamp_ms < splits.validation_from_ms
    match_level, match_age_ms = _match(fourteen_numbers(dataset)[test])
    facts = RowFacts(
        num_behaviors=_history_length(dataset)[test],
        match_age_ms=match_age_ms,
        match_level=match_level,
        new_item=~np.isin(shown.item[test], shown.item[learned]),
        cold_user=~np.isin(shown.user[test], shown.user[learned]),
    )
    return {f"{one.kind}: {one.label}": np.isin(np.arange(len(test)), one.rows) for one in cut(facts)}


def _history_length(dataset: Dataset) -> I64:
    """Gives how many interests and responses each impression's user had before it. (R,)."""
    shown = dataset.shown
    counts = (
        count_before(events.user, events.timestamp_ms, shown.user, shown.timestamp_ms)[0]
        for events in (dataset.interests, dataset.responses)
    )
    return sum(counts, np.zeros(len(shown.user), np.int64))


def _match(numbers: F64) -> tuple[U8, I64]:
    """Gives the finest level at which anything matches, and the age of the newest match there, as in `RowFacts`."""
    count, age = (
        np.stack([numbers[:, NAMES.index(f"level_{level}_{what}")] for level in range(LEVELS + 1)], axis=1)
        for what in ("count", "age_days")
    )
    level, some = (count > 0).argmax(axis=1), (count > 0).any(axis=1)
    age_days = np.take_along_axis(age, level[:, None], axis=1)[:, 0]
    age_ms = np.where(some, np.nan_to_num(age_days) * DAY_MS, -1.0)
    return np.where(some, level, NO_LEVEL).astype(np.uint8), age_ms.astype(np.int64)
