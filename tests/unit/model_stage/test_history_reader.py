"""Whole histories for an auxiliary loss: strictly before the request, the newest where not all are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from model_stage.training.history import HistoryReader
from model_stage.types import RankRequest
from store.behavior_store import BehaviorStore
from store.retrieval import Candidates
from tests.worlds.datasets import build_store
from tests.worlds.sample import event

TIMES = (10, 20, 20, 30)


class Encoder:
    """Takes items for rows."""

    side_info = ()

    def behavior_rows(self, behaviors, names, fields):
        return behaviors.item.astype(np.int32), np.empty((len(behaviors), 0), np.int32)


@pytest.fixture
def snapshot(tmp_path):
    behaviors = [event(1, 100 + at, 1, time) for at, time in enumerate(TIMES)]
    root = build_store(tmp_path, taxonomy=[{"category": 1, "parent": None}], behaviors=behaviors)
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        yield snapshot


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
def test_nothing_at_or_after_the_request_is_read(snapshot, as_of_ms, newest, items):
    request = RankRequest(user=1, as_of_ms=as_of_ms, candidates=Candidates.by_id(np.array([5], np.uint64)))
    history = HistoryReader(snapshot, Encoder(), newest).read(request)
    assert history.node.tolist() == items
    assert history.interval_ms.tolist() == [as_of_ms - TIMES[item - 100] for item in items]
