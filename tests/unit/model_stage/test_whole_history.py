"""A search joined with pages of a history: every behavior of the answer finds its place, or it is tried again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.errors import SearchUnavailableError
from model_stage.ranking.ablation import no_statistics
from model_stage.serving.whole_history import ATTEMPTS, places_in, search_whole
from store.columns import take_column
from store.errors import InputError
from store.retrieval import BehaviorColumns, HistoryPage, SearchResult
from store.types import Vocabulary
from tests.worlds import wire

rows = st.tuples(st.integers(0, 2), st.sampled_from([0.5, np.nan]))


def columns_of(drawn):
    return [np.array([a for a, _ in drawn], np.uint8), np.array([b for _, b in drawn], np.float32)]


@settings(deadline=None, max_examples=80)
@given(whole=st.lists(rows, max_size=8), data=st.data())
def test_every_row_is_found_in_a_whole_that_has_it(whole, data):
    chosen = sorted(data.draw(st.sets(st.integers(0, len(whole) - 1)) if whole else st.just(set())))
    place = places_in(columns_of(whole), columns_of([whole[at] for at in chosen]))
    assert len(set(place.tolist())) == len(chosen), "no row twice"
    assert [str(whole[at]) for at in place.tolist()] == [str(whole[at]) for at in chosen]
    assert places_in(columns_of(whole), columns_of([whole[at] for at in chosen] + [(3, 0.5)])) is None
    doubled = [whole[at] for at in chosen] + whole
    assert (places_in(columns_of(whole), columns_of(doubled)) is None) == bool(chosen)


def test_of_equal_rows_the_last_is_taken():
    assert places_in([np.array([7, 7, 7, 8], np.uint8)], [np.array([7, 7, 8], np.uint8)]).tolist() == [1, 2, 3]


def pages_of(found, behaviors, sides, size):
    """Gives a function of tokens that gives pages, the newest behavior first."""

    def page(token, delta_sequence):
        assert delta_sequence == found.delta_sequence
        end = len(behaviors) - int(token or 0)
        start = max(end - size, 0)
        taken = np.arange(start, end)[::-1]
        return HistoryPage(
            behaviors=behaviors.take(taken),
            behavior_fields=take_column(sides, taken),
            vocabulary=found.vocabulary,
            next_page_token=str(len(behaviors) - start) if start else "",
            store_generation=found.store_generation,
        )

    return page


@settings(deadline=None, max_examples=60)
@given(found=wire.search_results(), size=st.integers(1, 3), data=st.data())
def test_what_was_retrieved_stays_what_it_was_among_the_whole(found, size, data):
    """Of an answer with all behaviors: search gives those that it needs, pages give all, together they are the same."""
    number = len(found.behaviors)
    found = replace(found, num_behaviors=number, num_newest=number)
    used = np.unique(found.index)
    seen = replace(
        found,
        behaviors=found.behaviors.take(used),
        behavior_fields=take_column(found.behavior_fields, used),
        index=np.searchsorted(used, found.index).astype(np.int32),
        num_newest=0,
        names=None,
    )
    whole = search_whole(lambda: seen, pages_of(found, found.behaviors, found.behavior_fields, size))
    wire.assert_same(whole.behaviors, found.behaviors)
    wire.assert_same(whole.behaviors.take(whole.index), found.behaviors.take(found.index))
    assert whole.behavior_fields.keys() == found.behavior_fields.keys()
    for name, values in whole.behavior_fields.items():
        np.testing.assert_array_equal(values, found.behavior_fields[name])
    assert whole.num_newest == number
    wire.assert_same(replace(whole, index=found.index, names=None), replace(found, names=None))


def answer_of(items) -> SearchResult:
    """Gives an answer with the whole history: one candidate, for which the last behavior was retrieved."""
    count = len(items)
    return SearchResult(
        behaviors=BehaviorColumns(
            item=np.array(items, np.uint64),
            category=np.zeros(count, np.uint64),
            timestamp_ms=np.arange(count),
            domain=np.zeros(count, np.uint8),
            action=np.zeros(count, np.uint8),
            scene=np.zeros(count, np.uint16),
        ),
        vocabulary=Vocabulary(domains=("ads",), actions=("click",), scenes=("",)),
        offsets=np.array([0, 1]),
        index=np.array([count - 1], np.int32),
        score=np.zeros(1, np.float32),
        match_level=np.zeros(1, np.uint8),
        source=np.ones(1, np.uint8),
        same_as=np.zeros(1, np.int32),
        statistics=no_statistics(1),
        candidate_category=np.zeros(1, np.uint64),
        num_behaviors=count,
        store_generation="s",
        index_generation="",
    )


@pytest.mark.parametrize("changed", ["num_behaviors", "store_generation", "vocabulary", "a row"])
@pytest.mark.parametrize("lasts", [True, False])
def test_a_history_that_changes_meanwhile_is_read_again(changed, lasts):
    found = answer_of([5, 6, 7])
    searches = 0

    def search():
        nonlocal searches
        searches += 1
        if searches > 1 and not lasts:
            return found
        if changed == "a row":
            item = found.behaviors.item + 1
            return replace(found, behaviors=replace(found.behaviors, item=item))
        other = {
            "num_behaviors": 99,
            "store_generation": "other",
            "vocabulary": replace(found.vocabulary, scenes=("x",)),
        }
        return replace(found, **{changed: other[changed]})

    page = pages_of(found, found.behaviors, found.behavior_fields, 2)
    if lasts:
        with pytest.raises(SearchUnavailableError, match="changed while it was read"):
            search_whole(search, page)
        assert searches == ATTEMPTS
    else:
        assert search_whole(search, page).num_newest == len(found.behaviors)
        assert searches == 2


def test_a_generation_that_has_merged_later_events_is_asked_again():
    found, refusals = answer_of([5, 6, 7]), 1

    def page(token, delta_sequence):
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise InputError("delta_sequence: 0 is before the 9 that the generation has merged")
        return pages_of(found, found.behaviors, found.behavior_fields, 2)(token, delta_sequence)

    assert search_whole(lambda: found, page).num_newest == 3
    with pytest.raises(InputError, match="user: "):
        search_whole(lambda: found, lambda token, number: (_ for _ in ()).throw(InputError("user: none")))
