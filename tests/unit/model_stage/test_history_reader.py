"""Whole histories: each user's behaviors once, and of every request those strictly before it, or the newest of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from model_stage.training.history import Histories, HistoryReader, UserRows
from model_stage.types import RankRequest
from store.behavior_store import BehaviorStore
from store.retrieval import Candidates
from tests.worlds.datasets import build_store
from tests.worlds.sample import event

TIMES = (10, 20, 20, 30)


class Encoder:
    """Takes items for rows."""

    side_info = ()

    def behavior_rows(self, behaviors, names, fields, store_generation):
        return behaviors.item.astype(np.int32), np.empty((len(behaviors), 0), np.int32)


@pytest.fixture
def snapshot(tmp_path):
    behaviors = [event(1, 100 + at, 1, time) for at, time in enumerate(TIMES)]
    behaviors += [event(3, 300 + at, 1, 15 + at) for at in range(3)]
    root = build_store(tmp_path, taxonomy=[{"category": 1, "parent": None}], behaviors=behaviors)
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        yield snapshot


def read(snapshot, asked, newest=None):
    """Gives the histories of requests, (user, time) each, and the rows that were kept for all of them."""
    user, time = (np.array(column) for column in zip(*asked, strict=True))
    reader = HistoryReader(snapshot=snapshot, encoder=Encoder(), newest=newest)
    rows = UserRows.join([*reader.users(SimpleNamespace(user=user.astype(np.uint64), timestamp_ms=time))])
    candidates = Candidates.by_id(np.array([5], np.uint64))
    spans = [reader.span(RankRequest(user=u, as_of_ms=t, candidates=candidates)) for u, t in asked]
    return Histories.of(spans, rows), rows


@pytest.mark.parametrize(
    ("as_of_ms", "newest", "items"),
    [
        (10, None, []),
        (20, None, [100]),
        (21, None, [100, 101, 102]),
        (30, None, [100, 101, 102]),
        (31, None, [100, 101, 102, 103]),
        (31, 2, [102, 103]),
        (30, 2, [101, 102]),
        (11, 2, [100]),
    ],
)
@pytest.mark.parametrize("later", [[], [(1, 1000), (3, 16), (2, 50)]])
def test_nothing_at_or_after_the_request_is_read(snapshot, as_of_ms, newest, items, later):
    histories, _ = read(snapshot, [*later, (1, as_of_ms)], newest)
    taken = histories.take(np.array([len(later)]))
    assert taken.rows.node.tolist() == items
    assert taken.interval_ms.tolist() == [as_of_ms - TIMES[item - 100] for item in items]
    assert taken.offsets.tolist() == [0, len(items)]


def test_what_a_user_did_is_kept_once_and_no_longer_than_the_last_request(snapshot):
    asked = [(3, 17), (1, 21), (2, 50), (1, 30), (3, 16), (1, 11), (1, 30)]
    histories, rows = read(snapshot, asked)
    assert rows.node.tolist() == [100, 101, 102, 300, 301]
    again = histories.take(np.array([3, 0, 2, 3]))
    assert again.rows.node.tolist() == [100, 101, 102, 300, 301, 100, 101, 102]
    assert again.offsets.tolist() == [0, 3, 5, 5, 8]
    assert again.interval_ms.tolist() == [20, 10, 10, 2, 1, 20, 10, 10]
    assert again.take(np.array([1])).rows.node.tolist() == [300, 301]
