"""Soft match statistics on a history small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from search_stage import SearchConfig, Searcher
from tests.worlds.search import World, behavior, candidates_of, opened, request_of

APPLE, PEAR, ANTI_APPLE, LAMP = 1001, 1002, 1003, 1004
CLICK, BUY, LOOK = 0, 1, 2
WORLD = World(
    taxonomy=[{"category": 1, "parent": None}],
    items=[{"item": item, "category": 1, "covers": []} for item in (APPLE, PEAR, ANTI_APPLE, LAMP)],
    behaviors=[
        behavior(1, APPLE, 1),
        behavior(1, PEAR, 3),
        behavior(1, APPLE, 1, domain="content", action="buy"),
        behavior(1, ANTI_APPLE, 1, domain="content", action="buy"),
        behavior(1, LAMP, 1, domain="content", action="look"),
    ],
    category_vectors={1: [0.0, 0.0]},
    item_vectors={APPLE: [1.0, 0.0], PEAR: [0.0, 2.0], ANTI_APPLE: [-1.0, 0.0], LAMP: [0.0, 0.0]},
)
CONFIG = SearchConfig.model_validate({"statistics": {"half_life_days": [None, 2 / 86_400_000]}})


@pytest.fixture(scope="module")
def world():
    with opened(WORLD) as (store, index):
        yield store, index


def similarity(store, index, as_of_ms):
    """Of apple and pear, whose categories cover nothing, and of what is unknown: (candidate, stream, half-life)."""
    asked = request_of(1, candidates_of([APPLE, PEAR, 9999]), as_of_ms)
    statistics = Searcher(store, index, CONFIG).search(asked).statistics
    assert statistics.streams == (("ads", "click"), ("content", "buy"), ("content", "look"))
    assert statistics.half_life_ms.tolist() == [0, 2]
    return statistics.similarity


def test_the_older_a_behavior_the_less_it_weighs(world):
    """At 5 the apple is 4 old and the pear 2: they weigh 1/4 and 1/2, or both 1."""
    found = similarity(*world, 5)[:2, CLICK]
    no_decay, decayed = np.array([1, 2]) / np.sqrt(5), np.array([0.25, 1]) / np.sqrt(0.25**2 + 1)
    np.testing.assert_allclose(found, np.stack([no_decay, decayed], axis=1), atol=1e-6)


def test_a_profile_ends_at_the_as_of_time(world):
    assert similarity(*world, 3)[:2, CLICK].tolist() == [[1, 1], [0, 0]]
    assert np.isnan(similarity(*world, 1)).all()


def test_what_has_no_direction_is_missing(world):
    store, index = world
    found = similarity(store, index, 5)
    assert np.isnan(found[:, [BUY, LOOK]]).all(), "a sum that cancels, and vectors of zeros"
    assert np.isnan(found[2]).all(), "nothing is known of the candidate"
    assert np.isnan(similarity(store, None, 5)).all()
