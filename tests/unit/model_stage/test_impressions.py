"""Impressions as requests: rows of one user and one time, and splits that share no row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model_stage.training.impressions import requests_of
from model_stage.types import MAX_CANDIDATES
from store.dataset.impressions import Impressions
from tests.worlds.bundles import SCHEMA

ROWS = [(1, 10, 5), (2, 11, 5), (1, 12, 5), (1, 13, 6), (1, 14, 5), (2, 15, 4), (1, 16, 7)]
"""User, item, time."""


def impressions():
    user, item, time = (np.array(column) for column in zip(*ROWS, strict=True))
    return Impressions(
        user=user.astype(np.uint64),
        item=item.astype(np.uint64),
        timestamp_ms=time,
        targets=("click",),
        labels=np.zeros((len(ROWS), 1), np.float32),
        fields={},
    )


def test_a_request_is_of_one_user_and_one_time():
    found = [
        (request.as_of_ms, request.user, request.candidates.item.tolist(), rows.tolist())
        for rows, request in requests_of(impressions(), SCHEMA)
    ]
    assert found == [
        (4, 2, [15], [5]),
        (5, 1, [10, 12, 14], [0, 2, 4]),
        (5, 2, [11], [1]),
        (6, 1, [13], [3]),
        (7, 1, [16], [6]),
    ]


def test_what_is_more_than_a_request_may_have_is_cut():
    rows = 2 * MAX_CANDIDATES + 7
    many = replace(
        impressions(),
        user=np.full(rows, 3, np.uint64),
        item=np.arange(rows, dtype=np.uint64),
        timestamp_ms=np.full(rows, 5),
        labels=np.zeros((rows, 1), np.float32),
    )
    found = list(requests_of(many, SCHEMA))
    assert [len(request.candidates) for _, request in found] == [MAX_CANDIDATES, MAX_CANDIDATES, 7]
    assert np.concatenate([part for part, _ in found]).tolist() == list(range(rows))


def test_splits_meet_and_do_not_overlap():
    every = impressions()
    assert every.between(None, 5).item.tolist() == [15]
    assert every.between(5, 6).item.tolist() == [10, 11, 12, 14]
    assert every.between(6, None).item.tolist() == [13, 16]
