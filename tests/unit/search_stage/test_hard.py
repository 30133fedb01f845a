"""Hard search and match statistics on a history small enough to check by hand."""

from __future__ import annotations

import pytest

from search_stage import SearchConfig, Searcher
from store.retrieval import SOURCE_HARD, TopK
from tests.worlds.search import World, behavior, candidates_of, listed, opened, request_of

APPLE, PEAR, CARROT, LAMP, AD = 1001, 1002, 1003, 1004, 2001
FOOD, FRUIT, VEGETABLES, HOME = 1, 2, 3, 4

GROCERIES = World(
    taxonomy=[
        {"category": FOOD, "parent": None},
        {"category": FRUIT, "parent": FOOD},
        {"category": VEGETABLES, "parent": FOOD},
        {"category": HOME, "parent": None},
    ],
    items=[
        {"item": APPLE, "category": FRUIT, "covers": []},
        {"item": PEAR, "category": FRUIT, "covers": []},
        {"item": CARROT, "category": VEGETABLES, "covers": []},
        {"item": LAMP, "category": HOME, "covers": []},
        {"item": AD, "category": FRUIT, "covers": [APPLE]},
    ],
    behaviors=[
        behavior(1, CARROT, 1),
        behavior(1, PEAR, 2),
        behavior(1, APPLE, 3),
        behavior(1, LAMP, 4),
        behavior(1, APPLE, 5),
        behavior(1, PEAR, 6, domain="content", action="buy"),
    ],
)


def config_of(quota: int, min_matches: int, max_level: int, **domains: dict[str, int]) -> SearchConfig:
    policy = {"quota": quota, "min_matches": min_matches, "max_level": max_level}
    return SearchConfig.model_validate({"hard": {"default": policy, "domains": domains}, "recent": {"top_k": 0}})


NOTHING = {"quota": 0, "min_matches": 0, "max_level": 0}


@pytest.fixture(scope="module")
def store():
    with opened(GROCERIES) as (store, _):
        yield store


def found(store, config: SearchConfig, *, as_of_ms: int = 10, hard: int | None = None) -> list[tuple[int, int, int]]:
    """Gives (item, time, level) of what the ad finds, in order of rank."""
    request = request_of(1, candidates_of([AD]), as_of_ms, TopK(hard=hard))
    result = Searcher(store, None, config).search(request)
    assert {source for *_, source, _ in listed(result, 0)} <= {SOURCE_HARD}
    return [(item, time, level) for item, time, level, _, _ in listed(result, 0)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (config_of(9, 1, 9, content=NOTHING), [(APPLE, 3, 0), (APPLE, 5, 0)]),
        (config_of(9, 3, 9, content=NOTHING), [(PEAR, 2, 1), (APPLE, 3, 0), (APPLE, 5, 0)]),
        (config_of(9, 4, 9, content=NOTHING), [(CARROT, 1, 2), (PEAR, 2, 1), (APPLE, 3, 0), (APPLE, 5, 0)]),
        (config_of(9, 9, 9, content=NOTHING), [(CARROT, 1, 2), (PEAR, 2, 1), (APPLE, 3, 0), (APPLE, 5, 0)]),
        (config_of(9, 9, 1, content=NOTHING), [(PEAR, 2, 1), (APPLE, 3, 0), (APPLE, 5, 0)]),
        (config_of(3, 3, 9, content=NOTHING), [(PEAR, 2, 1), (APPLE, 3, 0), (APPLE, 5, 0)]),
        (config_of(1, 1, 9, content=NOTHING), [(APPLE, 5, 0)]),
        (config_of(9, 1, 9), [(APPLE, 3, 0), (APPLE, 5, 0), (PEAR, 6, 1)]),
        (config_of(9, 1, 0), [(APPLE, 3, 0), (APPLE, 5, 0)]),
        (config_of(0, 0, 9), []),
    ],
    ids=["enough", "climb 1", "climb 2", "top", "max level", "quota", "newest", "domains", "no climb", "off"],
)
def test_climbs_until_enough_is_found(store, config, expected):
    assert found(store, config) == expected


def test_as_of_cuts_before_matching(store):
    config = config_of(9, 3, 9, content=NOTHING)
    assert found(store, config, as_of_ms=5) == [(CARROT, 1, 2), (PEAR, 2, 1), (APPLE, 3, 0)]
    assert found(store, config, as_of_ms=1) == []


def test_a_request_caps_all_domains_together_by_level_then_time(store):
    config = config_of(9, 9, 9)
    assert found(store, config, hard=2) == [(APPLE, 3, 0), (APPLE, 5, 0)]
    assert found(store, config, hard=3) == [(APPLE, 3, 0), (APPLE, 5, 0), (PEAR, 6, 1)]
    assert found(store, config, hard=0) == []


def test_statistics_count_every_level(store):
    config = SearchConfig.model_validate({"statistics": {"within_days": [5 / 86_400_000, 7 / 86_400_000]}})
    result = Searcher(store, None, config).search(request_of(1, candidates_of([AD, LAMP]), as_of_ms=10))
    statistics = result.statistics
    assert statistics.streams == (("ads", "click"), ("content", "buy"))
    assert statistics.count[:, :, 0].tolist() == [[2, 3, 4, 0], [1, 1, 0, 0]]
    assert statistics.count[:, :, 1].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert statistics.age_ms[:, :, 0].tolist() == [[5, 5, 5, -1], [6, 6, -1, -1]]
    assert statistics.age_ms[:, :, 1].tolist() == [[-1, 4, 4, -1], [-1, -1, -1, -1]]
    assert statistics.oldest_age_ms[:, :, 0].tolist() == [[7, 8, 9, -1], [6, 6, -1, -1]]
    assert statistics.oldest_age_ms[:, :, 1].tolist() == [[-1, 4, 4, -1], [-1, -1, -1, -1]]
    assert statistics.within_ms.tolist() == [5, 7]
    assert statistics.within[:, :, 0].tolist() == [[[1, 2], [1, 2], [1, 2], [0, 0]], [[0, 1], [0, 1], [0, 0], [0, 0]]]
    assert statistics.within[0, :, 1].tolist() == [[0, 0], [1, 1], [1, 1], [0, 0]]
    assert statistics.total_count.tolist() == [5, 1]
    assert statistics.total_age_ms.tolist() == [5, 4]
    assert statistics.total_oldest_age_ms.tolist() == [9, 4]
    assert statistics.total_within.tolist() == [[1, 3], [1, 1]]


def test_products_of_the_request_replace_those_of_the_items_table(store):
    candidates = candidates_of([AD, AD], covers=[[LAMP], []])
    result = Searcher(store, None, config_of(9, 1, 0)).search(request_of(1, candidates, as_of_ms=10))
    assert [item for item, *_ in listed(result, 0)] == [LAMP]
    assert [item for item, *_ in listed(result, 1)] == [APPLE, APPLE]


def test_of_a_level_with_more_than_the_quota_the_newest_are_taken(store):
    config = config_of(1, 1, 9, content=NOTHING)
    result = Searcher(store, None, config).search(request_of(1, candidates_of([AD], covers=[[9999]]), as_of_ms=10))
    assert [(item, time, level) for item, time, level, *_ in listed(result, 0)] == [(APPLE, 5, 1)]


def test_products_outside_the_category_count_as_found(store):
    """The lamp is found at level 0 and hangs elsewhere: with the three fruits four are found at level 1, no climb."""
    config = config_of(9, 4, 9, content=NOTHING)
    result = Searcher(store, None, config).search(request_of(1, candidates_of([AD], covers=[[LAMP]]), as_of_ms=10))
    assert [(item, level) for item, _, level, *_ in listed(result, 0)] == [(PEAR, 1), (APPLE, 1), (LAMP, 0), (APPLE, 1)]


def test_a_category_of_the_request_replaces_the_items(store):
    candidates = candidates_of([LAMP, 9999, LAMP], [VEGETABLES, VEGETABLES, 77])
    result = Searcher(store, None, config_of(9, 9, 1)).search(request_of(1, candidates, as_of_ms=10))
    assert [(item, level) for item, _, level, *_ in listed(result, 0)] == [(CARROT, 1), (LAMP, 0)]
    assert [(item, level) for item, _, level, *_ in listed(result, 1)] == [(CARROT, 1)]
    assert [(item, level) for item, _, level, *_ in listed(result, 2)] == [(LAMP, 0)]
    assert result.candidate_category.tolist() == [VEGETABLES, VEGETABLES, 2**64 - 1]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"actions": ["buy"]}, [(PEAR, 6, 1)]),
        ({"actions": ["click", "buy"], "max_age_days": 6 / 86_400_000}, [(LAMP, 4), (APPLE, 5, 0), (PEAR, 6, 1)]),
        ({"scenes": ["elsewhere"]}, []),
    ],
    ids=["action", "age", "scene"],
)
def test_a_policy_lets_pass_by_action_age_and_scene(store, limits, expected):
    config = SearchConfig.model_validate(
        {"hard": {"default": {"quota": 9, "min_matches": 9, "max_level": 9, **limits}}, "recent": {"top_k": 0}}
    )
    assert found(store, config) == [row for row in expected if len(row) == 3]


def test_few_young_rows_among_many_old_ones_are_found(store):
    """Evenly spread over the two young rows, a quota of one of the four of food would be in less than one of them."""
    policy = {"quota": 1, "min_matches": 1, "max_level": 1, "max_age_days": 5 / 86_400_000}
    config = SearchConfig.model_validate({"hard": {"default": policy, "domains": {"content": NOTHING}}})
    result = Searcher(store, None, config).search(request_of(1, candidates_of([9999], [FOOD]), 10, TopK(recent=0)))
    assert [(item, time, level) for item, time, level, *_ in listed(result, 0)] == [(APPLE, 5, 1)]


def test_a_candidate_of_several_categories_climbs_from_each(store):
    """The ad is of fruit by the items table, and of home by the request: level 1 holds the rows of both."""
    config = config_of(9, 6, 9, content=NOTHING)
    result = Searcher(store, None, config).search(request_of(1, candidates_of([AD], more=[[HOME, 77]]), as_of_ms=10))
    rows = [(item, time, level) for item, time, level, *_ in listed(result, 0)]
    assert rows == [(CARROT, 1, 2), (PEAR, 2, 1), (APPLE, 3, 0), (LAMP, 4, 1), (APPLE, 5, 0)]
    assert result.statistics.count[0, :, 0].tolist() == [2, 4, 4, 0]
    assert result.statistics.oldest_age_ms[0, :, 0].tolist() == [7, 8, 9, -1]
    assert result.statistics.age_ms[0, :, 0].tolist() == [5, 5, 5, -1]


def test_equal_lists_are_marked(store):
    candidates = candidates_of([AD, 9999, LAMP, 9998, AD], [FRUIT, FRUIT, HOME, FRUIT, FRUIT])
    result = Searcher(store, None, config_of(9, 9, 9)).search(request_of(1, candidates, as_of_ms=10))
    assert result.same_as.tolist() == [0, 1, 2, 1, 0]
