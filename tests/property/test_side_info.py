"""Side-info of behaviors: at some positions what the whole history says there, and in answers of search the same."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_stage.config import SearchConfig
from search_stage.reference import reference_search
from search_stage.searcher import Searcher
from store import BehaviorStore, ingest, parse_id
from store.errors import FieldError
from tests.worlds import living
from tests.worlds.datasets import write_table
from tests.worlds.drawn import EVENT, write_behaviors
from tests.worlds.search import assert_equal_results, candidates_of, request_of

NAMES = ((), ("device",), ("stars",), ("stars", "device"))


@given(
    events=st.lists(EVENT, min_size=1, max_size=25),
    live=st.lists(EVENT, max_size=8),
    names=st.sampled_from(NAMES),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_some_positions_say_what_all_of_them_say(events, live, names, seed):
    folder = Path(tempfile.mkdtemp())
    try:
        write_behaviors(folder / "in", events)
        write_table(folder / "in", "taxonomy", [{"category": 1, "parent": None}])
        ingest(folder / "in", folder / "store")
        if live:
            living.append(folder / "store", live)
        draw = np.random.default_rng(seed)
        with BehaviorStore.open(folder / "store") as store, store.snapshot() as snapshot:
            for user in [*snapshot.user_ids(), 12345]:
                view = snapshot.user(user)
                kinds, count = snapshot.meta.behavior_fields, len(view.events())
                every = {name: column for (name, _), column in zip(kinds, view.events().fields, strict=True)}
                positions = draw.permutation(count)[: draw.integers(0, count + 1)]
                found = snapshot.user(user).behavior_fields(positions, names)
                assert list(found) == list(names)
                for name, values in found.items():
                    assert values.dtype == every[name].dtype
                    np.testing.assert_array_equal(values, every[name][positions])
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return living.build(tmp_path_factory.mktemp("side"))


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("user", ["anna", "7", "cy", "new", "bo", "nobody"])
def test_search_answers_what_its_twin_answers_live_events_too(root, user, names):
    config = SearchConfig.load()
    with BehaviorStore.open(root) as store:
        searcher = Searcher(store, None, config)
        request = request_of(parse_id(user), candidates_of([70, 71]), as_of_ms=58, behavior_fields=names)
        found = searcher.search(request)
        with store.snapshot() as snapshot:
            assert_equal_results(found, reference_search(snapshot, None, config, request))
    assert list(found.behavior_fields) == list(names)
    if user == "anna" and "device" in names:
        assert parse_id("watch") in found.behavior_fields["device"].tolist(), "of an event in the delta"


@pytest.mark.parametrize(("user", "decoded"), [("anna", 1), ("7", 1), ("new", 0), ("bo", 0)])
def test_a_search_looks_its_user_up_once(root, monkeypatch, user, decoded):
    with BehaviorStore.open(root) as store:
        searcher = Searcher(store)
        request = request_of(parse_id(user), candidates_of([70, 71]), as_of_ms=58, behavior_fields=("stars", "device"))
        counts = living.count_lookups(monkeypatch)
        searcher.search(request)
    assert {name: counts[name] for name in ("record", "tombstone", "rows")} == {"record": 1, "tombstone": 1, "rows": 1}
    assert counts["decode_user"] == counts["decode_extras"] == decoded


def test_a_field_that_the_store_lacks_is_named_with_those_there_are(root):
    with BehaviorStore.open(root) as store:
        request = request_of(parse_id("anna"), candidates_of([70]), as_of_ms=58, behavior_fields=("device", "os"))
        with pytest.raises(FieldError, match=r"behavior_fields\[1\]: 'os' is no .*; store .* has device, stars"):
            Searcher(store).search(request)
