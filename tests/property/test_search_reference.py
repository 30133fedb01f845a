"""Search equals its brute-force twin, on drawn worlds that are full of ties, gaps and unknown ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from search_stage import SearchConfig, Searcher
from search_stage.reference import reference_search
from store.behavior_store import BehaviorStore
from store.live_writer import LiveWriter
from store.retrieval import WHOLE_HISTORY, SearchRequest, TopK
from store.types import NO_ID
from tests.worlds.appends import batch
from tests.worlds.appends import event as event_of
from tests.worlds.search import (
    World,
    assert_equal_results,
    behavior,
    candidates_of,
    listed,
    opened,
    publish,
    request_of,
)

CATEGORIES = range(1, 9)
CONTENT_CATEGORIES = range(101, 105)
ITEMS = range(1001, 1013)
UNKNOWN_ITEMS = range(5001, 5004)
UNKNOWN_CATEGORY = 77
UNKNOWN_USER = 9
DOMAINS = ("ads", "content", "games")
MS_IN_DAYS = 1 / 86_400_000

SLOW = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

maybe_category = st.sampled_from([None, UNKNOWN_CATEGORY, *CATEGORIES])
any_item = st.sampled_from([*ITEMS, *UNKNOWN_ITEMS])


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A tree for the ads and one for the content domain, with some bridges."""
    rows = [
        {"category": node, "parent": draw(st.sampled_from([None, *range(1, node)])), "domain": None}
        for node in CATEGORIES
    ]
    rows += [
        {"category": node, "parent": draw(st.sampled_from([None, *range(101, node)])), "domain": "content"}
        for node in CONTENT_CATEGORIES
    ]
    bridged = draw(st.lists(st.sampled_from(CONTENT_CATEGORIES), unique=True))
    bridges = [{"domain": "content", "category": c, "node": draw(st.sampled_from(CATEGORIES))} for c in bridged]
    return rows, bridges


@st.composite
def behaviors(draw: st.DrawFn) -> dict[str, Any]:
    """Few items and few times, so that rows tie."""
    domain = draw(st.sampled_from(DOMAINS))
    known = CONTENT_CATEGORIES if domain == "content" else CATEGORIES
    return behavior(
        draw(st.sampled_from([1, 1, 2])),
        draw(any_item),
        draw(st.integers(1, 12)),
        category=draw(st.sampled_from([None, UNKNOWN_CATEGORY, *known])),
        domain=domain,
        action=draw(st.sampled_from(["click", "buy"])),
        scene=draw(st.sampled_from(["", "home"])),
        device=draw(st.sampled_from([None, "phone", "tv"])),
        stars=draw(st.sampled_from([None, 0.0, 1.5])),
    )


def vectors(ids: range, dim: int) -> st.SearchStrategy[dict[int, list[float]]]:
    """Vectors of some of the ids; few distinct numbers, so that vectors and scores tie."""
    numbers = st.lists(st.sampled_from([-1.0, 0.0, -0.0, 0.5, 1.0]), min_size=dim, max_size=dim)
    return st.dictionaries(st.sampled_from(ids), numbers)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    taxonomy, bridges = draw(trees())
    items = [
        {
            "item": item,
            "category": draw(maybe_category),
            "covers": draw(st.lists(any_item, max_size=3)),
            "price": draw(st.sampled_from([2.5, 1.5])),
            "tags": draw(st.lists(st.sampled_from(["a", "b"]), max_size=2)),
        }
        for item in draw(st.lists(st.sampled_from(ITEMS), unique=True))
    ]
    dim = draw(st.integers(1, 3))
    return World(
        behaviors=[
            behavior(2, ITEMS[0], 1, device="phone", stars=0.5),  # or the store might have no such fields
            *draw(st.lists(behaviors(), min_size=1, max_size=30)),
        ],
        taxonomy=taxonomy,
        bridges=bridges or None,
        items=items or None,
        users=[{"user": 1, "age": 30.0}],
        category_vectors={1: [0.0] * dim} | draw(vectors(CATEGORIES, dim)),
        item_vectors=draw(vectors(ITEMS, dim)),
    )


time_terms = st.dictionaries(
    st.sampled_from([1 * MS_IN_DAYS, 3 * MS_IN_DAYS, 6 * MS_IN_DAYS, 100.0]),
    st.sampled_from([-0.5, 0.0, 0.5, 1.0]),
    max_size=3,
).map(lambda added: [{"max_age_days": age, "add": added[age]} for age in sorted(added)])


within_days = st.sets(st.sampled_from([1 * MS_IN_DAYS, 3 * MS_IN_DAYS, 6 * MS_IN_DAYS, 100.0])).map(sorted)


half_lives = st.lists(st.sampled_from([None, 1 * MS_IN_DAYS, 6 * MS_IN_DAYS]), unique=True, max_size=3)


@st.composite
def configs(draw: st.DrawFn) -> SearchConfig:
    def policy() -> dict[str, Any]:
        quota = draw(st.integers(0, 6))
        return {
            "quota": quota,
            "min_matches": draw(st.integers(0, quota)),
            "max_level": draw(st.integers(0, 5)),
            "max_age_days": draw(st.sampled_from([None, None, 3 * MS_IN_DAYS, 100.0])),
            "actions": draw(st.sampled_from([None, None, ["click"], ["buy", "unknown"], []])),
            "scenes": draw(st.sampled_from([None, None, ["home"], ["", "unknown"], []])),
        }

    return SearchConfig.model_validate(
        {
            "hard": {
                "default": policy(),
                "domains": {d: policy() for d in draw(st.sets(st.sampled_from(DOMAINS[:2])))},
            },
            "soft": {"top_k": draw(st.integers(0, 8)), "time_term": draw(time_terms)},
            "recent": {"top_k": draw(st.integers(0, 4))},
            "statistics": {
                "levels": draw(st.integers(1, 5)),
                "within_days": draw(within_days),
                "half_life_days": draw(half_lives),
            },
            "limits": {"max_newest": draw(st.sampled_from([0, 2, 1000]))},
        }
    )


@st.composite
def requests(draw: st.DrawFn) -> SearchRequest:
    count = draw(st.integers(1, 5))
    limit = st.sampled_from([None, 0, 1, 3, 100])
    return request_of(
        draw(st.sampled_from([1, 1, 2, UNKNOWN_USER])),
        candidates_of(
            [draw(st.sampled_from([NO_ID, *ITEMS, *UNKNOWN_ITEMS])) for _ in range(count)],
            [draw(st.sampled_from([NO_ID, NO_ID, UNKNOWN_CATEGORY, *CATEGORIES])) for _ in range(count)],
            [draw(st.lists(any_item, max_size=3)) for _ in range(count)],
            [draw(st.lists(st.sampled_from([UNKNOWN_CATEGORY, *CATEGORIES]), max_size=3)) for _ in range(count)]
            if draw(st.booleans())
            else None,
        ),
        as_of_ms=draw(st.integers(1, 14)),
        top_k=TopK(hard=draw(limit), soft=draw(limit), recent=draw(limit)),
        newest=draw(st.sampled_from([0, 1, 3, 100, WHOLE_HISTORY])),
        behavior_fields=draw(st.sampled_from([(), ("device",), ("stars", "device")])),
    )


@pytest.fixture(autouse=True)
def _quiet_about_policies_of_absent_domains(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", logger="search_stage.searcher")


@SLOW
@given(world=worlds(), config=configs(), asked=st.lists(requests(), min_size=1, max_size=4), with_index=st.booleans())
def test_search_equals_its_reference(world, config, asked, with_index):
    with opened(world) as (store, index):
        index = index if with_index else None
        searcher = Searcher(store, index, config)
        for request in asked:
            result = searcher.search(request)
            with store.snapshot() as snapshot:
                expected = reference_search(snapshot, index, config, request)
            event(f"behaviors listed: {min(len(result.index) // 10, 5)}0 or more")
            assert_equal_results(result, expected)


@settings(SLOW, max_examples=25)
@given(
    world=worlds(),
    other=worlds(),
    config=configs(),
    asked=st.lists(requests(), min_size=1, max_size=3),
    live=st.lists(behaviors(), min_size=1, max_size=8),
)
def test_search_equals_its_reference_on_live_events_and_after_a_swap(world, other, config, asked, live):
    """What is prepared of a pair of generations is of the pair that answers."""
    with opened(world) as (store, _):
        with LiveWriter(store) as writer:
            writer.append(batch(*map(live_event, live)))
        with BehaviorStore.open(store.root) as again:
            searcher = Searcher(again, config=config)
            for swap in (False, True):
                if swap:
                    publish(other, store.root.parent)
                    assert searcher.reload()
                for request in asked:
                    result = searcher.search(request)
                    with again.snapshot() as snapshot:
                        assert_equal_results(result, reference_search(snapshot, None, config, request))


def live_event(row: dict[str, Any]) -> dict[str, Any]:
    named = {name: row[name] for name in ("user", "item", "domain", "action", "scene")}
    return event_of(time=row["timestamp_ms"], category=NO_ID if row["category"] is None else row["category"], **named)


def large_world(seed: int, num_rows: int, num_items: int, dim: int, coarse: bool) -> World:
    """Enough distinct products that soft search needs its shortlist; coarse vectors tie, fine ones do not."""
    rng = np.random.default_rng(seed)
    parents = [None, None, *(int(rng.integers(1, node)) for node in range(3, 20))]

    def table(ids: range) -> dict[int, list[float]]:
        draws = rng.integers(-2, 3, (len(ids), dim)) / 2 if coarse else rng.standard_normal((len(ids), dim))
        return {i: draws[at].tolist() for at, i in enumerate(ids) if rng.random() < 0.8}

    items = range(1001, 1001 + num_items)
    return World(
        behaviors=[
            behavior(
                1,
                int(rng.choice(items)),
                int(rng.integers(1, num_rows)),
                domain=str(rng.choice(DOMAINS[:2])),
                action=str(rng.choice(["click", "buy"])),
            )
            for _ in range(num_rows)
        ],
        taxonomy=[{"category": node, "parent": parent} for node, parent in enumerate(parents, start=1)],
        items=[
            {
                "item": item,
                "category": int(rng.integers(1, 20)),
                "covers": rng.choice(items, rng.integers(0, 9)).tolist(),
            }
            for item in items
        ],
        category_vectors={1: [1.0] * dim} | table(range(1, 20)),
        item_vectors=table(items),
    )


@settings(SLOW, max_examples=15)
@given(
    seed=st.integers(0, 2**32),
    num_rows=st.integers(60, 300),
    dim=st.integers(1, 17),
    coarse=st.booleans(),
    top_k=st.integers(1, 12),
    as_of=st.integers(50, 400),
)
def test_search_equals_its_reference_where_the_shortlist_matters(seed, num_rows, dim, coarse, top_k, as_of):
    config = SearchConfig.model_validate(
        {"hard": {"default": {"quota": 9, "min_matches": 4}}, "soft": {"top_k": top_k}, "recent": {"top_k": 2}}
    )
    with opened(large_world(seed, num_rows, 90, dim, coarse)) as (store, index):
        request = request_of(1, candidates_of([*range(1001, 1013), 5001], [*[NO_ID] * 11, 3, 4]), as_of)
        result = Searcher(store, index, config).search(request)
        with store.snapshot() as snapshot:
            assert_equal_results(result, reference_search(snapshot, index, config, request))


@settings(SLOW, max_examples=15)
@given(seed=st.integers(0, 2**32), coarse=st.booleans(), data=st.data())
def test_a_list_depends_on_its_candidate_alone(seed, coarse, data):
    """I8: neither the order of the candidates nor who else is asked about changes a candidate's list."""
    statistics = {"half_life_days": [None, 30 * MS_IN_DAYS]}
    config = SearchConfig.model_validate({"soft": {"top_k": 5}, "recent": {"top_k": 2}, "statistics": statistics})
    with opened(large_world(seed, 200, 90, 8, coarse)) as (store, index):
        searcher = Searcher(store, index, config)
        items = data.draw(st.lists(st.integers(1001, 1095), min_size=2, max_size=40))
        together = searcher.search(request_of(1, candidates_of(items)))
        order = data.draw(st.permutations(range(len(items))))
        shuffled = searcher.search(request_of(1, candidates_of([items[at] for at in order])))
        for position, at in enumerate(order):
            assert listed(shuffled, position) == listed(together, at)
        at = data.draw(st.integers(0, len(items) - 1))
        alone = searcher.search(request_of(1, candidates_of([items[at]])))
        assert listed(alone, 0) == listed(together, at)
        for name in ("count", "age_ms", "oldest_age_ms", "within", "similarity"):
            one, other = (getattr(result.statistics, name) for result in (alone, together))
            np.testing.assert_array_equal(one[0], other[at], err_msg=name)


def test_the_newest_behaviors_are_the_same_whatever_the_candidates():
    """I8: what reads the user as one sequence reads nothing that another candidate retrieved."""
    config = SearchConfig.model_validate({"soft": {"top_k": 5}, "recent": {"top_k": 2}, "limits": {"max_newest": 40}})
    with opened(large_world(3, 200, 90, 8, coarse=False)) as (store, index):
        searcher = Searcher(store, index, config)
        answers = [searcher.search(request_of(1, candidates_of([item]), newest=50)) for item in (1001, 1040, 5001)]
        nothing_asked = searcher.search(request_of(1, candidates_of([1001])))
    newest = [(a.behaviors.item[-40:].tolist(), a.behaviors.timestamp_ms[-40:].tolist()) for a in answers]
    assert [a.num_newest for a in answers] == [40] * 3
    assert newest[0] == newest[1] == newest[2]
    assert len({len(a.behaviors) for a in answers}) > 1, "beside the newest the unions differ"
    assert nothing_asked.num_newest == 0
    assert len(nothing_asked.behaviors) == len(np.unique(nothing_asked.index)) < 40


@settings(SLOW, max_examples=25)
@given(world=worlds(), request=requests(), data=st.data())
def test_a_planted_future_event_is_never_seen(world, request, data):
    """I6: behaviors at or after the as-of time change nothing at all, wherever they stand in the taxonomy."""
    future = data.draw(st.lists(behaviors(), min_size=1, max_size=5))
    planted = [
        row | {"user": request.user, "timestamp_ms": request.as_of_ms + delay} for delay, row in enumerate(future)
    ]
    # The same streams, scenes and items must exist in both stores, or codes and nodes would differ for a good reason.
    other_user = [row | {"user": 3} for row in planted]
    past = [row for row in world.behaviors if row["user"] != request.user or row["timestamp_ms"] < request.as_of_ms]
    results = []
    for rows in ([*past, *other_user], [*past, *other_user, *planted]):
        changed = World(**{name: getattr(world, name) for name in World.__slots__} | {"behaviors": rows})
        with opened(changed) as (store, index):
            config = SearchConfig.model_validate({"statistics": {"half_life_days": [None, 3 * MS_IN_DAYS]}})
            results.append(Searcher(store, index, config).search(request))
    without, with_future = results
    assert with_future.num_behaviors == without.num_behaviors
    assert bool(np.all(with_future.behaviors.timestamp_ms < request.as_of_ms))
    for at in range(len(request.candidates)):
        assert listed(with_future, at) == listed(without, at)
    matches = ("count", "age_ms", "oldest_age_ms", "within")
    for name in (*matches, *(f"total_{name}" for name in matches), "similarity"):
        np.testing.assert_array_equal(getattr(with_future.statistics, name), getattr(without.statistics, name))
