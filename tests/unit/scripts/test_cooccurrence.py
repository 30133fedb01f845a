"""Vectors from who touched what: items that the same users touched are near to one another."""

from __future__ import annotations

import numpy as np
import typer
from typer.testing import CliRunner

from scripts.baselines.cooccurrence import EXPORT_FILE, cooccurrence_vectors, main
from search_stage.index.export import Export
from store.behavior_store import BehaviorStore
from tests.worlds.datasets import build_store
from tests.worlds.search import behavior

APP = typer.Typer()
APP.command()(main)


def test_items_of_the_same_users_are_near(tmp_path):
    behaviors = [
        behavior(user, 10 * (user % 2) + item, time)
        for user in range(8)
        for time, item in enumerate((1, 2, 3), start=1)
    ]
    # The last event of each user is what the recall report asks about: it must not be learned from.
    behaviors += [behavior(user, 50, 9) for user in range(8)]
    root = build_store(tmp_path, taxonomy=[], behaviors=behaviors)
    with BehaviorStore.open(root) as store:
        ids, vectors = cooccurrence_vectors(store, 2)
    assert ids.tolist() == [1, 2, 3, 11, 12, 13]
    near = vectors @ vectors.T
    np.testing.assert_allclose(np.diag(near), 1, rtol=1e-5)
    assert near[:3, :3].min() > 0.99
    assert np.abs(near[:3, 3:]).max() < 0.01
    done = CliRunner().invoke(APP, ["--store", str(root), "--out", str(tmp_path / "out"), "--dim", "2"])
    assert done.exit_code == 0, done.output
    read = Export.read(tmp_path / "out" / EXPORT_FILE)
    assert read.item_ids.tolist() == ids.tolist()
    np.testing.assert_array_equal(read.item_vectors, vectors)
    assert len(read.category_ids) == 0
