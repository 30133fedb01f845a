"""Vectors out of what users did: who is near whom, what an ad is, and that nothing later than training is seen."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from scripts.item_vectors import item_vectors, main
from store import BehaviorStore
from store.command import command_line, run
from store.dataset.item_vectors import read_item_vectors
from tests.worlds.datasets import build_store
from tests.worlds.search import behavior

UNTIL_MS = 100
ITEMS = [
    *({"item": item, "category": None} for item in (1, 2, 3, 11, 12, 13, 50)),
    {"item": 90, "category": None, "covers": ["1", "2", "50"]},
    {"item": 91, "category": None, "covers": ["50"]},
]


@pytest.fixture(scope="module")
def store_root(tmp_path_factory):
    behaviors = [
        behavior(user, 10 * (user % 2) + item, time)
        for user in range(8)
        for time, item in enumerate((1, 2, 3), start=1)
    ]
    behaviors += [behavior(user, 50, UNTIL_MS) for user in range(8)]
    return build_store(tmp_path_factory.mktemp("vectors"), taxonomy=[], items=ITEMS, behaviors=behaviors)


def test_items_of_the_same_users_are_near_and_an_ad_is_what_it_covers(store_root):
    with BehaviorStore.open(store_root) as store, store.snapshot() as snapshot:
        made = item_vectors(snapshot, UNTIL_MS, 4)
    # Item 50 came too late, so it has no vector, and neither has the ad that covers nothing else.
    assert made.ids.tolist() == [1, 2, 3, 11, 12, 13, 90]
    assert made.dim == 4
    unit = made.vectors / np.linalg.norm(made.vectors, axis=1, keepdims=True)
    near = unit @ unit.T
    assert near[:3, :3].min() > 0.99
    assert np.abs(near[:3, 3:6]).max() < 0.01
    assert near[6, :3].min() > 0.99
    assert made.weights.tolist() == [4.0] * 6 + [0.0]
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, rtol=1e-5)


def test_nothing_before_the_time_gives_no_vectors(store_root):
    with BehaviorStore.open(store_root) as store, store.snapshot() as snapshot:
        assert len(item_vectors(snapshot, 0, 4).ids) == 0


def test_the_command_writes_what_training_reads(store_root, tmp_path, monkeypatch, capsys):
    (tmp_path / "splits.json").write_text(json.dumps({"validation_from_ms": UNTIL_MS, "test_from_ms": 2 * UNTIL_MS}))
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(tmp_path), "--store", str(store_root), "--dim", "4"])
    with pytest.raises(SystemExit) as ended:
        run(command_line(None, main))
    assert not ended.value.code
    assert "wrote 7 vectors of 4 dimensions" in capsys.readouterr().out
    read = read_item_vectors(tmp_path)
    with BehaviorStore.open(store_root) as store, store.snapshot() as snapshot:
        made = item_vectors(snapshot, UNTIL_MS, 4)
    np.testing.assert_array_equal(read.ids, made.ids)
    np.testing.assert_array_equal(read.vectors, made.vectors)
