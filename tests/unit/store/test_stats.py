import json
from dataclasses import asdict

import numpy as np
import pytest

from store import BehaviorStore, rebuild
from store.live_writer import LiveWriter
from store.operations.stats import stats
from store.publishing.generation import current_name
from store.publishing.kept import kept_generations
from tests.worlds import living, sample
from tests.worlds.datasets import build_store


@pytest.fixture
def root(tmp_path):
    return living.build(tmp_path)


def plain(root):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        return living.plain_rows(snapshot)


def test_numbers_are_those_of_base_and_delta_together(root):
    found, rows = stats(root, now_ms=70), plain(root)
    assert found.num_behaviors == len(rows)
    assert found.num_users == len({row[0] for row in rows})
    assert [(one.domain, one.num_behaviors, one.num_users) for one in found.domains] == [
        (domain, sum(row[4] == domain for row in rows), len({row[0] for row in rows if row[4] == domain}))
        for domain in ("ads", "content", "live")
    ]
    assert found.streams == tuple(sorted({f"{row[4]}/{row[5]}" for row in rows}))
    assert (found.first_ms, found.last_ms) == (6, 60)
    assert found.generations == tuple(kept_generations(root))
    assert found.generation == current_name(root, "store")
    assert (found.num_categories, found.num_items, found.num_covers) == (4, 4, 1)
    assert (found.behavior_fields, found.item_fields, found.user_fields) == (
        {"device": "ids", "stars": "numbers"},
        {"brand": "ids", "price": "numbers", "tags": "lists of ids"},
        {"age": "ids", "likes": "lists of ids", "size": "numbers"},
    )
    assert json.loads(json.dumps(asdict(found)))["num_users"] == found.num_users


def test_lengths_are_of_users_that_there_are(tmp_path):
    behaviors = [sample.event(user, 1, 1, at) for user in range(100) for at in range(user + 1)]
    root = build_store(tmp_path, taxonomy=[{"category": 1, "parent": None}], behaviors=behaviors)
    lengths = stats(root).lengths
    assert (lengths.p50, lengths.p90, lengths.p99, lengths.max) == (50, 90, 99, 100)


def test_unmapped_categories_come_with_their_events(root):
    found = stats(root)
    # 12345 has no category; 556 has one that is none; item 90 is known, so its 404 is not asked for; 555 is of a domain
    # without a tree and category 101 is not one of the ads'.
    assert [(one.domain, one.category, one.num_behaviors) for one in found.unmapped] == [
        ("content", "", 1),
        ("content", "404", 1),
        ("live", "baking", 1),
    ]
    assert found.num_unmapped == 3


def test_the_delta_is_described(root):
    delta = stats(root, now_ms=108).delta
    assert delta is not None
    assert (delta.num_events, delta.num_unmerged, delta.num_users, delta.num_tombstones) == (4, 4, 3, 1)
    assert (delta.last_sequence, delta.oldest_ms, delta.age_ms, delta.writer) == (5, 7, 101, "")
    with BehaviorStore.open(root) as store, LiveWriter(store):
        delta = stats(root).delta
        assert delta is not None
        assert delta.writer.startswith("process ")
    rebuild(root)
    delta = stats(root).delta
    assert delta is not None
    assert (delta.num_unmerged, delta.num_users, delta.oldest_ms, delta.age_ms) == (0, 0, None, None)


def test_disk_is_told_by_part(root):
    found = stats(root)
    assert {"base", "taxonomy", "tables", "items", "users", "covers", "delta", "other generations"} == set(
        found.disk_bytes
    )
    folder = root / "generations" / found.generation
    files = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    parts = sum(size for part, size in found.disk_bytes.items() if part not in ("delta", "other generations"))
    assert parts == files
    assert found.disk_bytes["other generations"] > 0


def test_an_empty_store_has_numbers_too(tmp_path):
    root = build_store(tmp_path, **{**sample.tables(), "behaviors": []})
    found = stats(root)
    assert (found.num_users, found.num_behaviors, found.lengths.max, found.first_ms, found.last_ms) == (0, 0, 0, 0, 0)
    assert found.domains == found.unmapped == ()


def test_progress_ends_at_one(root):
    seen = []
    stats(root, progress=seen.append)
    assert np.isclose(seen[-1], 1.0)
