"""Kernels on worlds small enough for plain Python: `make test-plain-kernels` runs this file with nothing compiled.

What it runs must reach every line of every kernel; coverage of compiled code cannot be measured.
"""

from __future__ import annotations

import numpy as np
import pytest

from search_stage import SearchConfig, Searcher
from search_stage.index.nearest import nearest_centroid
from search_stage.index.representatives import representatives, representatives_by_bytes
from search_stage.kernels.distinct import number_distinct
from search_stage.merge import number_used
from search_stage.reference import reference_search
from search_stage.soft.base import Keys, nearest_of_all
from search_stage.soft.clusters import ClusterKeySearch
from search_stage.soft.engines import make_engine
from tests.worlds.search import World, assert_equal_results, behavior, candidates_of, opened, request_of
from tests.worlds.soft import index_of, vectors

# Hashes overflow by design; only plain Python says so.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

ITEMS = range(1001, 1061)
CATEGORIES = range(1, 13)
DOMAINS = ("ads", "content")


def world_of(seed: int, num_rows: int) -> World:
    """Two domains, a tree of three levels, items with vectors of few values, so that scores tie."""
    draw = np.random.default_rng(seed)
    return World(
        taxonomy=[{"category": at, "parent": None if at < 3 else at // 3} for at in CATEGORIES],
        items=[
            {"item": item, "category": int(draw.integers(1, 13)), "covers": draw.choice(ITEMS, 3).tolist()}
            for item in ITEMS
        ],
        behaviors=[
            behavior(
                1,
                int(draw.choice(ITEMS)) if draw.random() < 0.9 else 9999,
                time,
                domain=str(draw.choice(DOMAINS)),
                action=str(draw.choice(["click", "buy"])),
                scene=str(draw.choice(["home", "search"])),
            )
            for time in range(num_rows)
        ],
        category_vectors={at: vectors(draw, 1, 4, True)[0].tolist() for at in CATEGORIES},
        item_vectors={item: vectors(draw, 1, 4, True)[0].tolist() for item in ITEMS},
    )


POLICIES = {
    "default": {"quota": 5, "min_matches": 3, "max_level": 3},
    "domains": {"content": {"quota": 3, "min_matches": 3, "max_level": 2, "scenes": ["home"]}},
}


@pytest.mark.parametrize(("num_rows", "as_of_ms", "quota"), [(700, 700, 5), (700, 650, 5), (120, 100, 40), (3, 3, 5)])
def test_search_equals_its_reference(num_rows, as_of_ms, quota):
    policies = POLICIES | {"default": POLICIES["default"] | {"quota": quota}}
    config = SearchConfig.model_validate({"hard": policies, "soft": {"top_k": 7}, "recent": {"top_k": 3}})
    asked = candidates_of([*ITEMS[:9], 1, 1], [*[2**64 - 1] * 9, 4, 77], more=[[3, 9]] + [[]] * 9 + [[2]])
    request = request_of(1, asked, as_of_ms)
    with opened(world_of(num_rows, num_rows)) as (store, index), store.snapshot() as snapshot:
        result = Searcher(store, index, config).search(request)
        assert_equal_results(result, reference_search(snapshot, index, config, request))


@pytest.mark.parametrize("num_queries", [1, 3])
@pytest.mark.parametrize(("count", "top_k"), [(40, 5), (600, 20), (600, 300), (1_200, 3)])
@pytest.mark.parametrize("order", ["drawn", "best last", "best sampled"])
def test_a_scan_finds_what_all_scores_say(num_queries, count, top_k, order):
    draw = np.random.default_rng([num_queries, count])
    table, queries = vectors(draw, count, 9, False), vectors(draw, num_queries, 9, False)
    if order == "best last":  # every block brings keys that pass
        table = table[np.argsort(table @ queries[0])]
    elif order == "best sampled":  # the estimate of the bar is too high
        table[:48:4] = 100 * queries[0]
    index = index_of(table)
    keys = Keys(row=np.arange(count, dtype=np.uint32), newest=draw.permutation(count).astype(np.uint32))
    found = make_engine("scan", index).nearest(queries, keys, top_k)
    np.testing.assert_array_equal(found, nearest_of_all(index, queries, keys, top_k))


@pytest.mark.parametrize("probe_one_in", [1, 4])
def test_clusters_are_searched_alone_and_together(probe_one_in):
    draw = np.random.default_rng(probe_one_in)
    index = index_of(vectors(draw, 300, 9, False))
    index.centroids, index.cluster = vectors(draw, 8, 9, False), draw.integers(0, 7, 300).astype(np.uint16)
    keys = Keys(row=np.arange(300, dtype=np.uint32), newest=draw.permutation(300).astype(np.uint32))
    search, queries = ClusterKeySearch(index, make_engine("numpy", index), 1, probe_one_in), vectors(draw, 3, 9, False)
    together = search.nearest(queries, keys, 10)
    for at in range(3):
        np.testing.assert_array_equal(search.nearest(queries[at : at + 1], keys, 10)[0], together[at])
    if probe_one_in == 1:
        np.testing.assert_array_equal(together, nearest_of_all(index, queries, keys, 10))


def test_the_newest_rows_of_many_are_found_in_either_way():
    """One domain with the same item again and again: by a walk through time, and by looking at every row."""
    rows = [behavior(1, 1001 + (time % 50 != 0), time, scene="home" if time % 3 else "search") for time in range(900)]
    world = World(
        taxonomy=[{"category": 1, "parent": None}],
        items=[{"item": item, "category": 1, "covers": []} for item in (1001, 1002)],
        behaviors=rows,
    )
    with opened(world) as (store, _), store.snapshot() as snapshot:
        for scenes, quota in ((None, 4), (["home"], 4), (["home"], 200), (None, 12)):
            policy = {"quota": quota, "min_matches": quota, "max_level": 1, "scenes": scenes}
            config = SearchConfig.model_validate({"hard": {"default": policy}, "recent": {"top_k": 0}})
            request = request_of(1, candidates_of([1001, 1002]), 890)
            result = Searcher(store, None, config).search(request)
            assert_equal_results(result, reference_search(snapshot, None, config, request))


def test_a_run_of_one_item_ends_with_its_stream():
    rows = [behavior(1, 1001, time, action="view" if time % 8 == 0 else "click") for time in range(24)]
    world = World(
        taxonomy=[{"category": 1, "parent": None}],
        items=[{"item": 1001, "category": 1, "covers": []}],
        behaviors=rows,
        category_vectors={1: [1.0, 0.0]},
        item_vectors={1001: [1.0, 1.0]},
    )
    config = SearchConfig.model_validate({"soft": {"top_k": 7}, "recent": {"top_k": 0}})
    request = request_of(1, candidates_of([1001]))
    with opened(world) as (store, index), store.snapshot() as snapshot:
        result = Searcher(store, index, config).search(request)
        assert_equal_results(result, reference_search(snapshot, index, config, request))


def test_of_few_rows_that_are_all_young_the_newest_are_found():
    """They are found by looking at rows, and are more than there is room for."""
    rows = [behavior(1, 1001 if time < 1_000 else 1002, time) for time in range(1_030)]
    world = World(
        taxonomy=[{"category": 1, "parent": None}, {"category": 2, "parent": None}],
        items=[{"item": item, "category": item - 1000, "covers": []} for item in (1001, 1002)],
        behaviors=rows,
    )
    policy = {"quota": 4, "min_matches": 4, "max_level": 1}
    config = SearchConfig.model_validate({"hard": {"default": policy}, "recent": {"top_k": 0}})
    request = request_of(1, candidates_of([1002]))
    with opened(world) as (store, _), store.snapshot() as snapshot:
        result = Searcher(store, None, config).search(request)
        assert_equal_results(result, reference_search(snapshot, None, config, request))


def test_more_own_nodes_than_are_searched_together():
    """Every product of a candidate that covers many has a row."""
    items = range(1001, 1401)
    world = World(
        taxonomy=[{"category": 1, "parent": None}],
        items=[{"item": item, "category": 1, "covers": list(items) if item == 1001 else []} for item in items],
        behaviors=[behavior(1, item, item) for item in items],
    )
    config = SearchConfig.model_validate({"hard": {"default": {"quota": 300}}, "recent": {"top_k": 0}})
    request = request_of(1, candidates_of([1001]))
    with opened(world) as (store, _), store.snapshot() as snapshot:
        result = Searcher(store, None, config).search(request)
        assert_equal_results(result, reference_search(snapshot, None, config, request))


def test_equal_rows_and_equal_hashes_are_found():
    table = np.random.default_rng(1).integers(0, 3, (90, 3)).astype(np.float32)
    assert representatives(table).tolist() == representatives_by_bytes(table).tolist()


def test_the_nearest_centroid_is_the_first_of_equally_near_ones():
    draw = np.random.default_rng(2)
    points, centroids = (draw.integers(-2, 3, (count, 4)).astype(np.float32) for count in (50, 70))
    distances = ((points[:, None] - centroids[None]) ** 2).sum(axis=2)
    assert nearest_centroid(points, centroids).tolist() == distances.argmin(axis=1).tolist()


def test_distinct_values_are_numbered_also_where_hashes_meet():
    values = np.random.default_rng(3).integers(0, 40, 200)
    number, first = number_distinct(values)
    assert values[first][number].tolist() == values.tolist()
    assert first.tolist() == sorted(values.tolist().index(value) for value in set(values.tolist()))


def test_the_newest_positions_are_used_whatever_was_found():
    used, index = number_used(np.array([70, 1, 70], np.int64), 80, 3)
    assert used.tolist() == [1, 70, 77, 78, 79]
    assert index.tolist() == [1, 0, 1]
