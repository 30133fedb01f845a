"""Categories that a bundle's tree lacks: which row stands in for them, and how often anybody is asked for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest

from model_stage.encoding import ancestors as ancestors_module
from model_stage.encoding.ancestors import PATIENCE_S, PAUSE_S, AncestorEncoder
from model_stage.encoding.encoder import RequestEncoder
from model_stage.encoding.vocabulary import IdRows
from model_stage.errors import SearchUnavailableError
from model_stage.inspection.synthetic_request import AS_OF_MS, synthetic_request
from model_stage.ranking.ranker import Ranker
from model_stage.types import RankRequest
from serving.deadline import Deadline
from store.lists import Lists
from store.retrieval import Ancestors, Candidates, Names
from store.types import NO_ID
from tests.worlds.bundles import SCHEMA, VOCABULARIES, opened

ABOVE = {21: [20, 10], 22: [21, 20, 10], 31: [30, 10], 11: [10], 50: [], 51: [50], 20: [10]}
"""What the store says. The bundle knows 10 > (20, 30) and 40 (rows 1 to 4), and item 7 of 20 (row 5)."""


def u64(*ids):
    return np.array(ids, np.uint64)


class Store:
    """A retriever that knows a taxonomy, and keeps what it was asked."""

    def __init__(self, found=None, generation="g", above=ABOVE):
        self.found, self.generation, self.above = found, generation, above
        self.asked, self.deadlines, self.problem = [], [], ""

    def search(self, request, deadline=None, request_id=""):
        if self.found is None:
            raise SearchUnavailableError("down")
        return self.found

    def ancestors(self, categories, deadline=None, request_id=""):
        self.asked.append(categories.tolist())
        self.deadlines.append(deadline)
        if self.problem:
            raise SearchUnavailableError(self.problem)
        lists = [self.above.get(category, []) for category in categories.tolist()]
        offsets = np.concatenate(([0], np.cumsum([len(each) for each in lists]))).astype(np.int64)
        return Ancestors(
            above=Lists(values=u64(*(a for each in lists for a in each)), offsets=offsets),
            store_generation=self.generation,
        )


class Known:
    """As much of a bundle as made-up requests look at."""

    vocabularies = VOCABULARIES


def answered(*categories, items=None, generation="g"):
    """A request for candidates of some categories, each with one behavior of the same one."""
    request, found = synthetic_request(Known, u64(*categories), [5], [0])
    if items is not None:
        candidates = replace(request.candidates, item=u64(*items))
        request = replace(request, candidates=candidates)
        found = replace(found, behaviors=replace(found.behaviors, item=u64(*items)))
    return request, replace(found, store_generation=generation)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def encoder(store):
    return AncestorEncoder(RequestEncoder(SCHEMA, VOCABULARIES), store)


def rows(encoder, *categories, deadline=None, **options):
    encoded, _ = encoder.encode(*answered(*categories, **options), deadline)
    assert encoded.behavior_node.tolist() == encoded.candidate_node.tolist()
    assert encoded.candidate_node.dtype == np.int32
    return encoded.candidate_node.tolist()


def test_the_nearest_known_ancestor_stands_in(encoder, store):
    assert rows(encoder, 21, 22, 31, 11, 20, 40) == [2, 2, 3, 1, 2, 4]
    assert store.asked == [[11, 21, 22, 31]]


def test_without_a_known_ancestor_a_category_has_no_row_and_is_asked_for_once(encoder, store):
    assert rows(encoder, 50, 51, 404, NO_ID) == [0, 0, 0, 0]
    assert rows(encoder, 404, 51, 50, NO_ID) == [0, 0, 0, 0]
    assert store.asked == [[50, 51, 404]]


def test_nobody_is_asked_where_everything_is_known_or_nothing_would_come_of_it(encoder, store):
    assert rows(encoder, 10, 20, 30, 40, NO_ID) == [1, 2, 3, 4, 0]
    assert rows(encoder, 21, 404, items=(7, 7)) == [5, 5]  # the item has a row of its own
    assert store.asked == []


def test_items_that_the_bundle_lacks_have_the_row_of_their_new_category(encoder, store):
    assert rows(encoder, 21, 21, 22, 20, items=(7, 8, NO_ID, 9)) == [5, 2, 2, 2]
    assert store.asked == [[21, 22]]


def test_what_was_learned_is_kept_and_what_is_new_is_asked_for_alone(encoder, store):
    assert rows(encoder, 21) == [2]
    assert rows(encoder, 21, 22, 40) == [2, 2, 4]
    assert rows(encoder, 22, 31, 21) == [2, 3, 2]
    assert store.asked == [[21], [22], [31]]


def test_what_was_learned_of_one_generation_says_nothing_of_another(encoder, store):
    assert rows(encoder, 21) == [2]
    store.generation, store.above = "h", {21: [30, 10]}
    assert rows(encoder, 21, generation="h") == [3]
    assert rows(encoder, 21, generation="h") == [3]
    assert store.asked == [[21], [21]]
    with pytest.raises(SearchUnavailableError, match="store g answered the search, store h says"):
        rows(encoder, 21)
    assert rows(encoder, 21, generation="h") == [3]
    assert len(store.asked) == 3


def test_what_is_kept_is_bounded_and_every_answer_complete(encoder, store, monkeypatch):
    monkeypatch.setattr(ancestors_module, "MAX_KEPT", 3)
    assert rows(encoder, 21, 22) == [2, 2]
    assert rows(encoder, 21, 22, 31, 11) == [2, 2, 3, 1]  # two more are too many to keep
    assert rows(encoder, 21) == [2]
    assert rows(encoder, 11, 22, 31, 21, 404) == [1, 2, 3, 2, 0]
    assert store.asked == [[21, 22], [11, 31], [21], [11, 22, 31, 404]]


def test_many_new_categories_are_asked_for_in_parts(encoder, store):
    new = range(1000, 3500)
    store.above = {category: [category % 3, 20 if category % 2 else 404] for category in new}
    assert rows(encoder, *new) == [2 if category % 2 else 0 for category in new]
    assert [len(asked) for asked in store.asked] == [1000, 1000, 500]
    assert rows(encoder, *new[::-1]) == [2 if category % 2 else 0 for category in new[::-1]]
    assert len(store.asked) == 3


def test_after_a_failure_nobody_is_asked_for_a_while(store):
    now_s = 100.0
    encoder = AncestorEncoder(RequestEncoder(SCHEMA, VOCABULARIES), store, clock_s=lambda: now_s)
    store.problem = "gone"
    for deadline in (Deadline.after(PATIENCE_S / 2), None):  # the first one's failure may be its own
        with pytest.raises(SearchUnavailableError, match=r"^gone$"):
            rows(encoder, 21, deadline=deadline)
    store.problem, asked = "", len(store.asked)
    assert asked == 2
    for category in (21, 404):
        with pytest.raises(SearchUnavailableError, match=r"^gone; it is asked again after 1 s$"):
            rows(encoder, category)
    assert rows(encoder, 20) == [2]  # the bundle knows it
    assert len(store.asked) == asked
    now_s += PAUSE_S
    assert rows(encoder, 21) == [2]


def test_several_threads_learn_side_by_side(encoder, store):
    new = {category: [404, (10, 20, 30, 40)[category % 4]] for category in range(100, 180)}
    store.above = new
    barrier = Barrier(8)

    def work(number):
        barrier.wait()
        draw = np.random.default_rng(number)
        for _ in range(40):
            asked = draw.choice(list(new), 3).tolist()
            if rows(encoder, *asked) != [1 + category % 4 for category in asked]:
                return asked
        return None

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(8))) == {None}
    asked = len(store.asked)
    assert rows(encoder, *new) == [1 + category % 4 for category in new]
    assert len(store.asked) <= asked + 1
    assert len(store.asked) < 8 * 80


def test_ids_are_inserted_in_order():
    known = IdRows(ids=u64(5, 9), rows=np.array([1, 2]))
    more = known.with_more(u64(1, 6, 7, 30), np.array([3, 4, 0, 5]))
    assert more.ids.tolist() == [1, 5, 6, 7, 9, 30]
    assert more.rows.tolist() == [3, 1, 4, 0, 2, 5]
    assert known.unknown(u64(9, 4, NO_ID, 4, 1)).tolist() == [1, 4]
    assert IdRows(ids=u64(), rows=np.array([], np.int64)).unknown(u64(2)).tolist() == [2]


def test_a_ranker_scores_a_new_category_as_its_parent_and_survives_not_knowing_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ancestors_module, "PAUSE_S", 0.0)
    bundle = opened(tmp_path)
    request, found = answered(21, 20, 404)
    named = ("", "", "")
    store = Store(replace(found, names=Names(behavior_items=named, behavior_categories=named, candidates=named)))
    ranker = Ranker(bundle, store)
    store.problem = "the search stage answered UNIMPLEMENTED"
    without = ranker.rank(request, Deadline.after(60))
    assert (without.ancestors_reason, without.degraded) == (store.problem, False)
    assert without.versions.store_generation == "g"
    assert ranker.explain(request).ancestors_reason == store.problem
    store.problem, store.asked = "", []
    deadline = Deadline.after(60)
    result = ranker.rank(request, deadline)
    assert result.ancestors_reason == ""
    np.testing.assert_array_equal(result.probability[0], result.probability[1])
    assert not np.array_equal(result.probability[0], without.probability[0])
    np.testing.assert_array_equal(result.probability[2], without.probability[2])
    assert store.asked == [[21, 404]]
    assert deadline.at_s - 0.15 < store.deadlines[-1].at_s < deadline.at_s - 0.02  # the rest is for the network
    explained = ranker.explain(request, 0)
    assert store.asked == [[21, 404]]
    assert explained.behaviors[0].category == 21
    assert explained.probability == pytest.approx(result.probability[0].tolist(), abs=1e-6)
    as_parent = ranker.explain(request, 1)
    assert explained.contributions == as_parent.contributions


def test_without_search_nobody_is_asked_what_is_above_a_category(tmp_path):
    candidates = Candidates(item=u64(1), category=u64(21), covers=u64(), covers_offsets=np.zeros(2, np.int64))
    store = Store()
    result = Ranker(opened(tmp_path), store).rank(RankRequest(user=1, as_of_ms=AS_OF_MS, candidates=candidates))
    assert (result.degraded, result.ancestors_reason, store.asked) == (True, "", [])
