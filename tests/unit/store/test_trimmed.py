"""A reader whose generation lacks events that were trimmed follows the one that has merged them."""

import pytest

from store import BehaviorStore, MissingGenerationError, rebuild
from store.dataset.json_rows import parse_rows
from store.live_writer import LiveWriter
from store.publishing.generation import current_name
from tests.worlds.datasets import build_store
from tests.worlds.sample import event


def append(store, *events):
    with LiveWriter(store) as writer:
        writer.append(parse_rows(events))


@pytest.fixture
def root(tmp_path):
    return build_store(tmp_path, taxonomy=[{"category": 1, "parent": None}], behaviors=[event(1, 10, 1, 100)])


def test_no_snapshot_lacks_what_was_trimmed(root):
    with BehaviorStore.open(root) as store:
        append(store, event(1, 11, 1, 200))
        rebuild(root, keep=1)
        with store.snapshot() as snapshot:
            assert snapshot.generation == current_name(root, "store")
            assert snapshot.user(1).history().item.tolist() == [10, 11]


def test_a_generation_that_still_has_what_it_needs_stays(root):
    with BehaviorStore.open(root) as store:
        before = store.generation
        append(store, event(1, 11, 1, 200))
        rebuild(root, keep=2)
        with store.snapshot() as snapshot:
            assert snapshot.generation == before
            assert snapshot.user(1).history().item.tolist() == [10, 11]


def test_an_old_generation_asked_for_by_name_is_refused_rather_than_incomplete(root):
    with BehaviorStore.open(root) as store:
        append(store, event(1, 11, 1, 200))
        before = store.generation
        rebuild(root, keep=2)
        with BehaviorStore.open(root) as newer:
            append(newer, event(1, 12, 1, 300))
        current = current_name(root, "store")
        rebuild(root, keep=2)  # which trims what `before` lacks, and removes it
    with pytest.raises(MissingGenerationError):
        BehaviorStore.open(root, before)
    with BehaviorStore.open(root, current) as store, store.snapshot() as snapshot:
        assert snapshot.user(1).history().item.tolist() == [10, 11, 12]
