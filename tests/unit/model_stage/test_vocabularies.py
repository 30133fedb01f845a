"""Vocabularies of a training: what is counted ends where the training split ends."""

from __future__ import annotations

import numpy as np
import pytest

from model_stage.config.schema import CategoricalField, Schema
from model_stage.training.vocabularies import build_vocabularies
from store import BehaviorStore
from store.dataset.impressions import Impressions
from store.types import parse_id
from tests.worlds.datasets import build_store

UNTIL_MS = 1_000_000
SCHEMA = Schema(
    attention_dim=4,
    representation_dim=4,
    item_min_count=1,
    behavior_fields=("device",),
    fields=(CategoricalField(kind="categorical", name="device", part="behavior", min_count=1),),
)
NOTHING = Impressions(
    user=np.empty(0, np.uint64),
    item=np.empty(0, np.uint64),
    timestamp_ms=np.empty(0, np.int64),
    targets=("click",),
    labels=np.empty((0, 1), np.float32),
    fields={},
)


def behavior(item, timestamp_ms, user=1):
    return {
        "user": user,
        "item": item,
        "category": 20,
        "domain": "content",
        "action": "view",
        "timestamp_ms": timestamp_ms,
        "device": f"d{item}",
    }


@pytest.mark.parametrize("order", [1, -1])
def test_behaviors_at_or_after_the_end_of_the_training_split_do_not_count(tmp_path, order):
    """A row for what occurs only later would be a leak: its very being there says that it will occur."""
    times = {1: 5, 2: UNTIL_MS - 1, 3: UNTIL_MS, 4: UNTIL_MS + 1}
    rows = [behavior(item, time_ms, user) for item, time_ms in times.items() for user in (1, 2)][::order]
    items = [{"item": item, "category": 20} for item in times]
    root = build_store(tmp_path, behaviors=rows, taxonomy=[{"category": 20, "parent": None}], items=items)
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        found = build_vocabularies(SCHEMA, snapshot, NOTHING, UNTIL_MS)
    assert found.tree.items.ids.tolist() == [1, 2]
    assert found.categorical["device"].tolist() == sorted(map(parse_id, ("d1", "d2")))
