"""The searcher: what it refuses, what it answers besides the lists, and how it follows new generations."""

from __future__ import annotations

import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest

from search_stage import IndexGeneration, SearchConfig, Searcher, build_index
from search_stage.errors import FaissMissingError, IndexMismatchError
from search_stage.soft.engines import make_engine
from serving.deadline import Deadline
from store.behavior_store import BehaviorStore
from store.errors import DeadlineExceededError, InputError
from store.retrieval import SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT, TopK
from store.types import NO_ID, parse_id
from tests.worlds.datasets import build_store
from tests.worlds.search import (
    World,
    assert_equal_results,
    behavior,
    candidates_of,
    listed,
    opened,
    request_of,
    write_export,
)

TAXONOMY = [{"category": "shoes", "parent": None, "name": "Shoes"}, {"category": "hats", "parent": None}]
ITEMS = [
    {"item": "boot", "category": "shoes", "name": "A boot", "brand": "acme", "price": 9.5},
    {"item": "cap", "category": "hats", "brand": None, "price": None},
]
BOOT, CAP, SHOES, HATS = (parse_id(text) for text in ("boot", "cap", "shoes", "hats"))
VECTORS = {"category_vectors": {SHOES: [1.0, 0.0], HATS: [0.0, 1.0]}, "item_vectors": {BOOT: [2.0, 0.0]}}
WORLD = World(
    taxonomy=TAXONOMY,
    items=ITEMS,
    users=[{"user": "ann", "segment": "gold"}],
    behaviors=[
        behavior("ann", "cap", 1),
        behavior("ann", "boot", 2),
        behavior("ann", "unheard of", 3, category="shoes"),
        behavior("ann", "mystery", 4),
    ],
    **VECTORS,
)
ANN = parse_id("ann")


@pytest.fixture(scope="module")
def world():
    with opened(WORLD) as (store, index):
        yield store, index


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"user": NO_ID}, "user"),
        ({"user": -1}, "user"),
        ({"as_of_ms": 0}, "as_of_ms"),
        ({"as_of_ms": 161_001}, "as_of_ms"),
        ({"candidates": candidates_of([])}, "candidates"),
        ({"candidates": candidates_of([1] * 1001)}, "candidates"),
        ({"candidates": candidates_of([1], covers=[[1, 2, 3]])}, "candidates.covers"),
        ({"candidates": candidates_of([1], more=[[1, 2, 3]])}, "candidates.more_categories"),
        ({"candidates": candidates_of([BOOT] * 1000), "top_k": TopK(hard=4)}, "candidates"),
        ({"top_k": TopK(hard=-1)}, "top_k.hard"),
        ({"top_k": TopK(soft=-1)}, "top_k.soft"),
        ({"top_k": TopK(recent=-1)}, "top_k.recent"),
    ],
)
def test_a_bad_request_is_refused_by_field(world, changes, field):
    store, index = world
    config = SearchConfig.model_validate({"limits": {"max_covers": 2, "max_categories": 2, "max_entries": 3000}})
    searcher = Searcher(store, index, config, now_ms=lambda: 101_000)
    good = {"user": ANN, "as_of_ms": 161_000, "candidates": candidates_of([BOOT] * 1000)}
    good["top_k"] = TopK(hard=1, soft=1, recent=1)
    searcher.search(request_of(**good))
    with pytest.raises(InputError, match=f"^{field}: "):
        searcher.search(request_of(**(good | changes)))


def test_ancestors_are_those_of_the_store_in_use(world):
    searcher = Searcher(*world)
    answer = searcher.ancestors(np.array([SHOES, 404, NO_ID], np.uint64))
    assert (len(answer.above), answer.above.values.tolist()) == (3, [])
    assert answer.store_generation == searcher.store_generation
    assert len(searcher.ancestors(np.arange(1000, dtype=np.uint64)).above) == 1000
    for count in (0, 1001):
        with pytest.raises(InputError, match=f"^categories: must be 1 to 1000, got {count}"):
            searcher.ancestors(np.arange(count, dtype=np.uint64))


def test_a_spent_deadline_ends_the_work(world):
    searcher = Searcher(*world)
    request = request_of(ANN, candidates_of([BOOT]))
    assert len(searcher.search(request, Deadline.after(60), "r1").index)
    with pytest.raises(DeadlineExceededError, match="r1"):
        searcher.search(request, Deadline.after(0), "r1")


def test_the_answer_says_what_the_store_knows(world):
    store, index = world
    result = Searcher(store, index).search(request_of(ANN, candidates_of([BOOT, CAP, 5]), with_names=True))
    assert result.candidate_fields["brand"].tolist() == [parse_id("acme"), NO_ID, NO_ID]
    np.testing.assert_array_equal(result.candidate_fields["price"], np.array([9.5, np.nan, np.nan], np.float32))
    assert result.user_fields["segment"].tolist() == [parse_id("gold")]
    assert result.candidate_category.tolist() == [SHOES, HATS, NO_ID]
    assert result.names is not None
    assert result.names.candidates == ("A boot", "cap", "5")
    assert result.names.behavior_items == ("cap", "A boot", "unheard of", "mystery")
    assert result.names.behavior_categories == ("hats", "Shoes", "Shoes", "")
    assert result.behaviors.category.tolist() == [HATS, SHOES, SHOES, NO_ID]
    assert (result.store_generation, result.index_generation) == (store.generation, index.name)


def test_scores_and_sources(world):
    config = SearchConfig.model_validate(
        {"hard": {"default": {"quota": 1, "min_matches": 1}}, "soft": {"top_k": 2}, "recent": {"top_k": 1}}
    )
    result = Searcher(*world, config).search(request_of(ANN, candidates_of([BOOT])))
    assert [(time, source, score) for _, time, _, source, score in listed(result, 0)] == [
        (2, SOURCE_HARD | SOURCE_SOFT, 4.0),
        (3, SOURCE_SOFT, 2.0),
        (4, SOURCE_RECENT, 0.0),
    ]


def test_without_an_index_soft_search_is_off(world):
    result = Searcher(world[0]).search(request_of(ANN, candidates_of([BOOT])))
    assert result.index_generation == ""
    assert not result.score.any()
    assert not (result.source & SOURCE_SOFT).any()


def test_a_candidate_known_by_nothing_gets_the_newest_behaviors(world):
    config = SearchConfig.model_validate({"soft": {"top_k": 2}, "recent": {"top_k": 0}})
    result = Searcher(*world, config).search(request_of(ANN, candidates_of([12345])))
    assert [(time, source) for _, time, _, source, _ in listed(result, 0)] == [(3, SOURCE_SOFT), (4, SOURCE_SOFT)]


def test_an_unknown_user_has_an_empty_history(world):
    result = Searcher(*world).search(request_of(777, candidates_of([BOOT, CAP])))
    assert (result.num_behaviors, len(result.behaviors), result.offsets.tolist()) == (0, 0, [0, 0, 0])
    assert not result.statistics.count.any()
    assert (result.statistics.total_age_ms == -1).all()


def test_a_request_may_lower_a_limit_and_never_raise_it(world):
    config = SearchConfig.model_validate(
        {"hard": {"default": {"quota": 0, "min_matches": 0}}, "soft": {"top_k": 0}, "recent": {"top_k": 2}}
    )
    searcher = Searcher(*world, config)
    sizes = [
        len(searcher.search(request_of(ANN, candidates_of([BOOT]), top_k=TopK(recent=recent))).index)
        for recent in (None, 0, 1, 50)
    ]
    assert sizes == [2, 0, 1, 2]


def test_a_result_outlives_the_store(tmp_path):
    root = build_store(tmp_path, taxonomy=TAXONOMY, items=ITEMS, behaviors=WORLD.behaviors)
    request = request_of(ANN, candidates_of([BOOT]))
    with BehaviorStore.open(root) as store:
        early = Searcher(store).search(request)
        kept = early.behaviors.item.tolist()
    with BehaviorStore.open(root) as store:
        assert_equal_results(early, Searcher(store).search(request))
    assert early.behaviors.item.tolist() == kept
    assert early.behaviors.item.flags.owndata


def test_faiss_missing_is_told_with_what_to_install(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FaissMissingError, match=r"lookback\[cpu\].*lookback\[gpu\]"):
        make_engine("faiss", world[1])


class Roots:
    """A store and an index that can be published anew."""

    def __init__(self, folder):
        self.folder = folder
        self.index = folder / "index"
        self.store = self.publish_store(1)
        self.publish_index()

    def publish_store(self, num_behaviors, *extra_items):
        return build_store(
            self.folder,
            taxonomy=TAXONOMY,
            items=[*ITEMS, *extra_items],
            behaviors=[behavior("ann", "cap", time) for time in range(1, 1 + num_behaviors)],
        )

    def publish_index(self):
        export = write_export(self.folder / "model", VECTORS["category_vectors"], VECTORS["item_vectors"])
        with BehaviorStore.open(self.store) as store:
            return build_index(export, store, self.index).generation


EXTRA = {"item": "scarf", "category": "hats"}
ASKED = request_of(ANN, candidates_of([BOOT]))


def test_reload_follows_new_generations(tmp_path):
    roots = Roots(tmp_path)
    with BehaviorStore.open(roots.store) as store:
        searcher = Searcher(store, IndexGeneration.open(roots.index))
        assert not searcher.reload()
        roots.publish_store(2)
        assert searcher.search(ASKED).num_behaviors == 1
        assert searcher.reload()
        assert searcher.search(ASKED).num_behaviors == 2
        name = roots.publish_index()
        assert searcher.reload()
        assert searcher.index_generation == name == searcher.search(ASKED).index_generation
        assert not searcher.reload()


def test_a_request_between_the_steps_of_a_reload_gets_the_old_pair(tmp_path, monkeypatch):
    """The store switches last: until then its old generation is pinned, and answered with its own index and names."""
    roots = Roots(tmp_path)
    with BehaviorStore.open(roots.store) as store:
        searcher = Searcher(store, IndexGeneration.open(roots.index))
        before, during, switch = searcher.search(ASKED), [], store.switch

        def search_and_switch(upcoming):
            during.append(searcher.search(ASKED))
            switch(upcoming)

        monkeypatch.setattr(store, "switch", search_and_switch)
        roots.publish_store(2, EXTRA)
        roots.publish_index()
        assert searcher.reload()
        assert_equal_results(during[0], before)
        assert searcher.search(ASKED).index_generation != before.index_generation


def test_an_index_that_was_replaced_is_let_go(tmp_path):
    roots = Roots(tmp_path)
    with BehaviorStore.open(roots.store) as store:
        index = IndexGeneration.open(roots.index)
        table = weakref.ref(index.table)
        searcher = Searcher(store, index)
        del index
        roots.publish_store(2)
        roots.publish_index()
        assert table() is not None
        searcher.reload()
        gc.collect()
        assert table() is None


def test_reload_refuses_a_pair_that_does_not_fit_and_serves_the_old_one(tmp_path):
    roots = Roots(tmp_path)
    with BehaviorStore.open(roots.store) as store:
        searcher = Searcher(store, IndexGeneration.open(roots.index))
        before = searcher.search(ASKED)
        roots.publish_store(2, EXTRA)
        with pytest.raises(IndexMismatchError, match="build-index"):
            searcher.reload()
        assert_equal_results(searcher.search(ASKED), before)
        name = roots.publish_index()
        assert searcher.reload()
        after = searcher.search(ASKED)
        assert (after.num_behaviors, after.index_generation) == (2, name)


def test_a_store_reloaded_past_the_searcher_is_adopted_or_refused(tmp_path):
    roots = Roots(tmp_path)
    with BehaviorStore.open(roots.store) as store:
        searcher = Searcher(store, IndexGeneration.open(roots.index))
        roots.publish_store(2)
        store.reload()
        assert searcher.search(ASKED).num_behaviors == 2
        roots.publish_store(3, EXTRA)
        store.reload()
        with pytest.raises(IndexMismatchError):
            searcher.search(ASKED)


def test_requests_during_reloads_see_one_pair(tmp_path):
    """I3: while the pair is replaced again and again, no request fails, and none mixes generations."""
    roots = Roots(tmp_path)
    with BehaviorStore.open(roots.store) as store, ThreadPoolExecutor(2) as pool:
        searcher = Searcher(store, IndexGeneration.open(roots.index))
        pairs = {(searcher.store_generation, searcher.index_generation)}
        stop = False

        def ask():
            seen = set()
            while not stop:
                result = searcher.search(ASKED)
                seen.add((result.store_generation, result.index_generation))
            return seen

        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for turn in range(4):
                roots.publish_store(2 + turn, *([EXTRA] if turn % 2 else []))
                roots.publish_index()
                searcher.reload()
                pairs.add((searcher.store_generation, searcher.index_generation))
        finally:
            stop = True
        seen = set().union(*(future.result() for future in asking))
    assert seen <= pairs
    assert len(seen) > 1


def test_an_answer_can_be_read_without_a_copy():
    """Tensors share memory with arrays that are contiguous, aligned and not read-only, and no array is the store's."""
    with opened(WORLD) as (store, index):
        result = Searcher(store, index).search(request_of(parse_id("ann"), candidates_of([BOOT, CAP]), newest=3))
        arrays = {name: getattr(result, name) for name in ("offsets", "index", "score", "match_level", "source")}
        arrays |= {name: getattr(result, name) for name in ("same_as", "candidate_category")}
        arrays |= {f"behaviors.{name}": column for name, column in _columns(result.behaviors)}
        arrays |= {f"statistics.{name}": column for name, column in _columns(result.statistics)}
    for name, array in arrays.items():
        assert array.flags.c_contiguous, name
        assert array.flags.aligned, name
        assert array.flags.writeable, name


def _columns(part):
    values = ((field.name, getattr(part, field.name)) for field in fields(part))
    return [(name, value) for name, value in values if isinstance(value, np.ndarray)]
