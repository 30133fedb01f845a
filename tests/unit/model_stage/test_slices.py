"""Slices: what each impression is cut by is what a plain loop over its request says, and every impression is in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from model_stage.encoding.batch import RequestColumns
from model_stage.evaluation.slices import HISTORY_LENGTHS, NO_MATCH, RowFacts, row_facts, slices_of
from store.dataset.impressions import Impressions
from store.retrieval import NO_LEVEL
from store.types import DAY_MS
from tests.worlds.networks import make_request


@dataclass
class FakeSnapshot:
    """Users with one behavior a day since day 0."""

    user_id: int = 0

    def user(self, user):
        return FakeSnapshot(user)

    @property
    def columns(self):
        return self

    def num_before(self, as_of_ms):
        return 0 if self.user_id == 5 else as_of_ms // DAY_MS


def impressions(user, item, days) -> Impressions:
    return Impressions(
        user=np.array(user, np.uint64),
        item=np.array(item, np.uint64),
        timestamp_ms=np.array(days, np.int64) * DAY_MS,
        targets=(),
        labels=np.empty((len(user), 0), np.float32),
        fields={},
    )


@pytest.mark.parametrize("at_once", [1, 2, 4096])
def test_facts_are_those_of_a_plain_loop(monkeypatch, at_once):
    monkeypatch.setattr("model_stage.evaluation.slices._REQUESTS", at_once)
    lengths = [[3, 0, 5], [0], [7, 7], [1]]
    made = [make_request(each, seed=seed) for seed, each in enumerate(lengths)]
    user, days = [1, 1, 1, 5, 2, 2, 3], [400, 400, 400, 9, 30, 30, 0]
    split = impressions(user, [10, 11, 12, 10, 13, 14, 10], days)
    order = np.random.default_rng(0).permutation(7)
    shuffled, rows = split.select(order), np.argsort(order)
    learned = impressions([1, 2, 9], [10, 13, 15], [1, 1, 1])
    snapshot: Any = FakeSnapshot()
    facts = row_facts(shuffled, learned, RequestColumns.of(made), rows, snapshot)
    expected = []
    for request in made:
        for start, stop in zip(request.offsets[:-1], request.offsets[1:], strict=True):
            hard = [at for at in range(start, stop) if request.match_level[at] != NO_LEVEL]
            ages = [int(request.interval_ms[request.pair_behavior[at]]) for at in hard]
            levels = [int(request.match_level[at]) for at in hard]
            expected.append((min(levels, default=NO_LEVEL), min(ages, default=-1)))
    assert list(zip(facts.match_level[rows].tolist(), facts.match_age_ms[rows].tolist(), strict=True)) == expected
    assert facts.num_behaviors[rows].tolist() == [400, 400, 400, 0, 30, 30, 0]
    assert facts.new_item[rows].tolist() == [False, True, True, False, False, True, False]
    assert facts.cold_user[rows].tolist() == [False, False, False, True, False, False, True]


def test_slices_by_hand():
    facts = RowFacts(
        num_behaviors=np.array([0, 1, 49, 50, 1000, 10**6]),
        match_age_ms=np.array([-1, 0, 7 * DAY_MS - 1, 7 * DAY_MS, 90 * DAY_MS, 900 * DAY_MS]),
        match_level=np.array([NO_LEVEL, 0, 2, 2, 0, NO_LEVEL], np.uint8),
        new_item=np.zeros(6, np.bool_),
        cold_user=np.array([True, False, False, False, False, False]),
    )
    cut = slices_of(facts)
    found = {(each.kind, each.label): each.rows.tolist() for each in cut}
    assert found == {
        ("history length", "0"): [0],
        ("history length", "1 to 49"): [1, 2],
        ("history length", "50 to 199"): [3],
        ("history length", "1,000 or more"): [4, 5],
        ("age of the last match", "0 to 6 days"): [1, 2],
        ("age of the last match", "7 to 29 days"): [3],
        ("age of the last match", "90 days or more"): [4, 5],
        ("age of the last match", NO_MATCH): [0],
        ("match level", "0"): [1, 4],
        ("match level", "2"): [2, 3],
        ("match level", NO_MATCH): [0, 5],
        ("item", "seen in training"): [0, 1, 2, 3, 4, 5],
        ("user", "seen in training"): [1, 2, 3, 4, 5],
        ("user", "cold"): [0],
    }


def test_every_impression_is_in_one_slice_of_each_kind():
    draw = np.random.default_rng(1)
    facts = RowFacts(
        num_behaviors=draw.choice([*HISTORY_LENGTHS, 7, 77, 777], 300),
        match_age_ms=draw.integers(-1, 100, 300) * DAY_MS,
        match_level=draw.choice([0, 1, 3, NO_LEVEL], 300).astype(np.uint8),
        new_item=draw.random(300) < 0.5,
        cold_user=draw.random(300) < 0.5,
    )
    cut = slices_of(facts)
    for kind in {each.kind for each in cut}:
        rows = np.concatenate([each.rows for each in cut if each.kind == kind])
        assert sorted(rows.tolist()) == list(range(300)), kind
