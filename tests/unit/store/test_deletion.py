"""A deleted user: gone at once, from every later generation, and whatever is replayed; what comes later is there."""

import pytest

from store import BehaviorStore, ingest, rebuild
from store.dataset.json_rows import parse_rows
from store.delta.batch import ACCEPTED, REFUSED
from store.live_writer import LiveWriter
from store.publishing.kept import kept_generations
from tests.worlds.datasets import build_store, write_dataset
from tests.worlds.sample import event

GONE, OTHER = 7, 8
DELETED_MS = 1000
TAXONOMY = [{"category": 1, "parent": None}]
OLD = [event(GONE, 10, 1, 100), event(GONE, 11, 1, DELETED_MS - 1), event(OTHER, 12, 1, 100)]


def rows(*events):
    return parse_rows([{**event, "user": str(event["user"])} for event in events])


def items(root, user):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        view = snapshot.user(user)
        assert list(snapshot.user_ids()).count(user) == bool(view.columns.num_behaviors)
        assert sorted(view.columns.item.tolist()) == sorted(view.history().item.tolist())
        return sorted(view.events().item.tolist())


@pytest.fixture
def root(tmp_path):
    """A store whose user was deleted at `DELETED_MS`: of the base, and with an event in the delta."""
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=OLD)
    with BehaviorStore.open(root) as store, LiveWriter(store, now_ms=lambda: DELETED_MS) as writer:
        assert writer.append(rows(event(GONE, 13, 1, 500))).result.tolist() == [ACCEPTED]
        assert len(items(root, GONE)) == 3
        assert writer.delete_user(GONE) == 3
    return root


def test_it_is_gone_at_once_and_nobody_else_is(root):
    assert (items(root, GONE), items(root, OTHER)) == ([], [12])


def test_a_rebuild_does_not_take_it_over(root):
    rebuild(root)
    assert (items(root, GONE), items(root, OTHER)) == ([], [12])


def test_files_of_before_do_not_bring_it_back(root, tmp_path):
    last = event(GONE, 14, 1, DELETED_MS)  # up to the time of the deletion, that time itself among it
    later = event(GONE, 15, 1, DELETED_MS + 1)
    ingest(write_dataset(tmp_path / "again", behaviors=[*OLD, last, later]), root)
    assert (items(root, GONE), items(root, OTHER)) == ([15], [12])


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_replay_does_not_bring_it_back_and_what_is_new_is_there(root, rebuilt):
    if rebuilt:
        rebuild(root)
    with BehaviorStore.open(root) as store, LiveWriter(store, now_ms=lambda: DELETED_MS + 1) as writer:
        again = rows(*OLD[:2], event(GONE, 14, 1, DELETED_MS), event(GONE, 10, 1, DELETED_MS + 1))
        assert writer.append(again).result.tolist() == [REFUSED, REFUSED, REFUSED, ACCEPTED]
    assert items(root, GONE) == [10]
    rebuild(root)
    assert items(root, GONE) == [10]


def test_an_event_of_the_generation_counts_as_new_after_a_deletion(tmp_path):
    """Of one (item, action, time) as what was deleted, but later than the deletion: the clock had been set back."""
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=OLD)
    with BehaviorStore.open(root) as store, LiveWriter(store, now_ms=lambda: 50) as writer:
        writer.delete_user(GONE)
        assert writer.append(rows(OLD[0])).result.tolist() == [REFUSED], "the newest behavior decides, not the clock"


def test_generations_that_hold_it_are_removed_whatever_is_to_be_kept(root):
    rebuild(root, keep=5)
    assert len(kept_generations(root)) == 1
    rebuild(root, keep=5)
    assert len(kept_generations(root)) == 2
