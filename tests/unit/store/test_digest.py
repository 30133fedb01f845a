import copy

import numpy as np
import pytest
import xxhash

from store import BehaviorStore, parse_id, rebuild
from store.base.sequence import roll_back_store
from store.keys import mix_one
from store.operations.digest import EventDigest, digest, table_digest
from store.reading.scan import scan
from tests.worlds import living, sample
from tests.worlds.datasets import build_store


def digest_of(root, generation=None):
    with BehaviorStore.open(root, generation) as store, store.snapshot() as snapshot:
        return digest(snapshot)[0]


def plain_event_digest(snapshot):
    """The definition, event by event."""
    by_user: dict[int, bytes] = {}
    count = 0
    for user, item, category, time, domain, action, scene, key, fields in living.plain_rows(snapshot):
        side = 0
        for name, value in fields.items():
            bits = int(value.view(np.uint32)) if isinstance(value, np.floating) else int(value)
            side += mix_one(bits ^ xxhash.xxh3_64_intdigest(name.encode()))
        words = [xxhash.xxh3_64_intdigest(word.encode()) for word in (domain, action, scene)]
        row = [user, item, category, time, *words, key, side % 2**64]
        by_user[user] = by_user.get(user, b"") + b"".join(number.to_bytes(8, "little") for number in row)
        count += 1
    total = sum(xxhash.xxh3_128_intdigest(data) for data in by_user.values()) % 2**128
    return count.to_bytes(8, "little") + total.to_bytes(16, "little")


@pytest.fixture
def root(tmp_path):
    return living.build(tmp_path)


def test_events_are_digested_as_defined(root):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        for block_rows in (1, 1 << 17):
            events = EventDigest(snapshot.vocabulary, snapshot.meta.behavior_fields)
            for rows in scan(snapshot, block_rows=block_rows):
                events.add(rows)
            assert events.value() == plain_event_digest(snapshot)


def test_the_digest_is_of_the_content_wherever_it_lies(root, tmp_path):
    before = digest_of(root)
    rebuild(root)
    assert digest_of(root) == before  # delta or base, other codes, another generation

    kept = [event for event in living.BEHAVIORS if event["user"] != "bo"]
    shuffled = sorted([*kept, *living.LIVE], key=lambda event: (event["timestamp_ms"], str(event["item"])))
    other = build_store(tmp_path / "other", **living.tables(behaviors=shuffled), suffix=".csv")
    assert digest_of(other) == before  # another order of the rows, another kind of file


def test_an_older_generation_has_its_own_digest(tmp_path):
    root = build_store(tmp_path, **living.tables(behaviors=living.BEHAVIORS[:4]))
    before = digest_of(root)
    living.append(root, living.LIVE)
    after = digest_of(root)
    rebuild(root)
    assert digest_of(root) == after != before
    roll_back_store(root)
    assert digest_of(root) == after  # what was appended is still behind the older generation


CHANGES = {
    "item": lambda rows: rows[0].update(item=71),
    "category": lambda rows: rows[2].update(category=1),
    "time": lambda rows: rows[0].update(timestamp_ms=51),
    "domain": lambda rows: rows[0].update(domain="content"),
    "action": lambda rows: rows[0].update(action="buy"),
    "scene": lambda rows: rows[0].update(scene="side"),
    "event id": lambda rows: rows[0].update(event_id="other"),
    "no event id": lambda rows: rows[0].update(event_id=None),
    "categorical side-info": lambda rows: rows[0].update(device="tv"),
    "numeric side-info": lambda rows: rows[1].update(stars=1.25),
    "missing side-info": lambda rows: rows[1].update(stars=None),
    "side-info of another event": lambda rows: (rows[0].update(device=None), rows[1].update(device="phone")),
    "one event less": lambda rows: rows.pop(),
    "user": lambda rows: rows[0].update(user="7"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_part_of_an_event_counts(tmp_path, change):
    rows = copy.deepcopy(living.BEHAVIORS)
    CHANGES[change](rows)
    first = build_store(tmp_path / "first", **living.tables())
    second = build_store(tmp_path / "second", **living.tables(behaviors=rows))
    assert digest_of(first) != digest_of(second)


TABLE_CHANGES = {
    "a category's name": ("taxonomy", lambda rows: rows[0].update(name="Food")),
    "a parent": ("taxonomy", lambda rows: rows[2].update(parent=2)),
    "no bridge": ("bridges", lambda rows: rows.clear()),
    "an item's price": ("items", lambda rows: rows[0].update(price=2.5)),
    "an item's covers": ("items", lambda rows: rows[3].update(covers=[71])),
    "an item's tag": ("items", lambda rows: rows[0].update(tags=["a"])),
    "a user's like": ("users", lambda rows: rows[0].update(likes=[5])),
    "a user less": ("users", lambda rows: rows.pop()),
}


@pytest.mark.parametrize("change", TABLE_CHANGES)
def test_every_table_counts(tmp_path, change):
    stem, edit = TABLE_CHANGES[change]
    tables = copy.deepcopy(living.tables())
    edit(tables[stem])
    if not tables[stem]:
        tables[stem] = None
    first = build_store(tmp_path / "first", **living.tables())
    second = build_store(tmp_path / "second", **tables)
    assert digest_of(first) != digest_of(second)


def test_what_says_the_same_has_the_same_digest(tmp_path):
    tables = copy.deepcopy(living.tables())
    for rows in (tables["taxonomy"], tables["items"], tables["users"]):
        rows.reverse()
    tables["items"][0]["covers"] = [70, 71]  # a set
    tables["items"][3]["tags"] = ["a", "b"]
    tables["items"][1]["tags"] = None  # an empty list
    tables["users"][1]["likes"] = ["6", "5"]
    for row in tables["users"]:
        row["nothing"] = None
    for row in tables["behaviors"]:
        row["empty"] = None
    first = build_store(tmp_path / "first", **living.tables())
    second = build_store(tmp_path / "second", **tables)
    assert digest_of(first) == digest_of(second)


def test_a_table_is_a_bag_of_rows():
    one, two = {"a": "1", "b": None}, {"a": "2"}
    assert table_digest(iter([one, two])) == table_digest(iter([two, {"a": "1"}]))
    assert table_digest(iter([one, one])) != table_digest(iter([one]))
    assert table_digest(iter([one, one])) != table_digest(iter([two, two]))
    assert table_digest(iter([])) != table_digest(iter([{}]))


def test_a_deleted_user_is_out_of_the_digest_at_once(tmp_path):
    rows = [event for event in living.BEHAVIORS if event["user"] != "anna"]
    users = [user for user in sample.USERS if user["user"] != "anna"]
    without = build_store(tmp_path / "without", **living.tables(behaviors=rows, users=users))
    root = build_store(tmp_path / "with", **living.tables())
    assert digest_of(root) != digest_of(without)
    living.delete(root, parse_id("anna"))
    assert digest_of(root) == digest_of(without)
    rebuild(root)
    assert digest_of(root) == digest_of(without)


def test_a_user_who_came_back_brings_nothing_from_before(tmp_path):
    rows = [event for event in living.BEHAVIORS if event["user"] != "anna"]
    users = [user for user in sample.USERS if user["user"] != "anna"]
    back = sample.event("anna", 70, 2, living.NOW_MS + 50)
    expected = digest_of(build_store(tmp_path / "fresh", **living.tables(behaviors=[*rows, back], users=users)))
    root = build_store(tmp_path / "old", **living.tables())
    living.delete(root, parse_id("anna"))
    living.append(root, [back], now_ms=living.NOW_MS + 100)
    assert digest_of(root) == expected
    for _ in range(2):
        rebuild(root)
        assert digest_of(root) == expected
        with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
            assert snapshot.name_of("user", parse_id("anna")) == "anna"


def test_an_empty_store_has_a_digest(tmp_path):
    empty = build_store(tmp_path, **{**sample.tables(), "behaviors": []})
    assert len(digest_of(empty)) == 32
