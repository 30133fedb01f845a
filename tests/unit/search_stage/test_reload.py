"""How a searcher comes to a new pair of generations: opened once, tried, then served."""

from __future__ import annotations

import pytest

import store.behavior_store as behavior_store
from search_stage import Searcher
from search_stage import searcher as searcher_module
from store.behavior_store import BehaviorStore
from store.errors import CorruptRecordError
from store.live_writer import LiveWriter
from store.reading.user_view import UserView
from tests.worlds.appends import batch, event
from tests.worlds.datasets import build_store
from tests.worlds.search import behavior, candidates_of, request_of

TAXONOMY = [{"category": 1, "parent": None}]
ASKED = request_of(1, candidates_of([11]))


def publish(folder, number):
    """Publishes a store of one user, 1, with so many behaviors."""
    return build_store(
        folder,
        taxonomy=TAXONOMY,
        items=[{"item": 11, "category": 1}],
        behaviors=[behavior(1, 11, time) for time in range(1, 1 + number)],
    )


@pytest.fixture
def opens(monkeypatch):
    """Names of the store generations that were opened."""
    names, inner = [], behavior_store.open_generation

    def noted(root, kind, name=None):
        found = inner(root, kind, name)
        names.append(found.name)
        return found

    monkeypatch.setattr(behavior_store, "open_generation", noted)
    return names


def test_a_new_store_generation_is_opened_once(tmp_path, opens):
    with BehaviorStore.open(publish(tmp_path, 1)) as store:
        searcher = Searcher(store)
        publish(tmp_path, 2)
        assert searcher.published() != searcher.served()
        assert searcher.reload()
        assert searcher.published() == searcher.served() == {"store": opens[-1], "index": ""}
        assert len(opens) == 2
        assert not searcher.reload()
        assert len(opens) == 2


def test_a_generation_is_seen_before_it_is_served(tmp_path):
    with BehaviorStore.open(publish(tmp_path, 1)) as store:
        assert store.upcoming() is None
        before = store.generation
        publish(tmp_path, 2)
        upcoming = store.upcoming()
        with store.preview(upcoming) as snapshot:
            assert len(snapshot.user(1).history()) == 2
        assert store.generation == before
        assert len(store.history(1)) == 1
        with store.snapshot() as snapshot:
            store.switch(upcoming)
            assert len(snapshot.user(1).history()) == 1
        assert len(store.history(1)) == 2
        assert store.upcoming() is None


def test_a_pair_that_fails_when_it_is_tried_is_never_served(tmp_path, monkeypatch):
    with BehaviorStore.open(publish(tmp_path, 1)) as store:
        searcher = Searcher(store)
        publish(tmp_path, 2)

        def fail(*_):
            raise ZeroDivisionError

        monkeypatch.setattr(searcher_module, "warm_up", fail)
        with pytest.raises(ZeroDivisionError):
            searcher.reload()
        assert searcher.search(ASKED).num_behaviors == 1


def test_one_damaged_record_does_not_keep_the_others_from_being_served(tmp_path, monkeypatch, caplog):
    def damaged(view):
        raise CorruptRecordError(f"user {view.user}: is damaged")

    with BehaviorStore.open(publish(tmp_path, 1)) as store:
        with monkeypatch.context() as patch:
            patch.setattr(UserView, "columns", property(damaged))
            searcher = Searcher(store)
        assert "user 1: is damaged" in caplog.text
        assert searcher.search(ASKED).num_behaviors == 1


def test_users_of_the_base_and_of_the_delta_are_tried(tmp_path, monkeypatch):
    tried, inner = [], UserView.columns.func
    with BehaviorStore.open(publish(tmp_path, 1)) as store:
        with LiveWriter(store) as writer:
            writer.append(batch(event(user=2, item=11)))
        monkeypatch.setattr(UserView, "columns", property(lambda view: tried.append(view.user) or inner(view)))
        with BehaviorStore.open(store.root) as again:
            Searcher(again)
    assert set(tried) == {1, 2}
