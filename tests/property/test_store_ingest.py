"""A whole ingest against a few lines of plain Python on the same rows."""

import random
from itertools import groupby

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from store import BehaviorStore, ingest, parse_id, verify
from store.taxonomy.ordering import stable_order
from tests.worlds.datasets import build_store, write_dataset, write_table

TAXONOMY = [
    {"category": 1, "parent": None, "domain": None},
    {"category": 2, "parent": 1, "domain": None},
    {"category": 50, "parent": None, "domain": "content"},
    {"category": 51, "parent": 50, "domain": "content"},
    {"category": 60, "parent": None, "domain": "content"},
]
BRIDGES = [{"domain": "content", "category": 50, "node": 2}]
ITEMS = [{"item": 10, "category": 2}, {"item": 11, "category": 1}, {"item": 12, "category": 77}]

EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "user": st.sampled_from(["1", "2", "zoe"]),
            "item": st.sampled_from([10, 11, 12, 13, 14]),
            "category": st.sampled_from([1, 2, 50, 51, 60, None]),
            "domain": st.sampled_from(["ads", "content"]),
            "action": st.sampled_from(["view", "buy"]),
            "scene": st.sampled_from(["", "a", None]),
            "timestamp_ms": st.integers(0, 4),
            "event_id": st.sampled_from([None, None, "e", "7"]),
        }
    ),
    max_size=25,
)


def without_duplicates(rows):
    seen, kept = set(), []
    for row in rows:
        key = (row["user"], row["event_id"])
        if row["event_id"] is None:
            key = (row["user"], row["item"], row["action"], row["timestamp_ms"])
        if key not in seen:
            kept.append(row)
        seen.add(key)
    return kept


def category_of(row):
    """The ads' category of a behavior, None = unmapped."""
    if row["item"] in (10, 11, 12):
        return {10: 2, 11: 1, 12: None}[row["item"]]
    if row["domain"] == "content":
        return {50: 2, 51: 2}.get(row["category"])
    return row["category"] if row["category"] in (1, 2) else None


@given(EVENTS)
@settings(max_examples=40, deadline=None)
def test_a_store_holds_exactly_the_rows(tmp_path_factory, rows):
    root = build_store(
        tmp_path_factory.mktemp("store"), behaviors=rows, taxonomy=TAXONOMY, bridges=BRIDGES, items=ITEMS
    )
    kept = without_duplicates(rows)
    verify(root)
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        words = snapshot.vocabulary
        # A word of a duplicate may stand there too: codes are settled before duplicates are known.
        assert words.domains == tuple(sorted({row["domain"] for row in rows}))
        assert words.scenes == tuple(sorted({row["scene"] or "" for row in rows}))
        assert set(snapshot.streams) == {(row["domain"], row["action"]) for row in kept}
        assert sorted(snapshot.user_ids()) == sorted({parse_id(row["user"]) for row in kept})
        for name in ("1", "2", "zoe"):
            mine = sorted((row for row in kept if row["user"] == name), key=lambda row: row["timestamp_ms"])
            history = snapshot.user(parse_id(name)).history()
            got = [
                (
                    int(history.item[at]),
                    words.domains[history.domain[at]],
                    words.actions[history.action[at]],
                    words.scenes[history.scene[at]],
                    int(history.timestamp_ms[at]),
                )
                for at in range(len(history))
            ]
            assert got == [
                (row["item"], row["domain"], row["action"], row["scene"] or "", row["timestamp_ms"]) for row in mine
            ]
            categories = [category_of(row) for row in mine]
            assert history.category.tolist() == [2**64 - 1 if key is None else key for key in categories]


@given(EVENTS.filter(lambda rows: len(rows) >= 2), st.data())
@settings(max_examples=25, deadline=None)
def test_neither_the_format_nor_the_cut_into_files_matters(tmp_path_factory, rows, data):
    cut = data.draw(st.integers(1, len(rows) - 1))
    tables = {"taxonomy": TAXONOMY, "bridges": BRIDGES, "items": ITEMS}
    folder = write_dataset(tmp_path_factory.mktemp("in"), **tables)
    write_table(folder, "behaviors-1", rows[:cut], suffix=".csv")
    write_table(folder, "behaviors-2", rows[cut:])
    ingest(folder, folder / "store")
    whole = build_store(tmp_path_factory.mktemp("whole"), behaviors=rows, **tables)
    with BehaviorStore.open(whole) as one, BehaviorStore.open(folder / "store") as two:
        for name in ("1", "2", "zoe"):
            left, right = one.history(parse_id(name)), two.history(parse_id(name))
            assert left.item.tolist() == right.item.tolist()
            assert left.timestamp_ms.tolist() == right.timestamp_ms.tolist()


@given(st.data(), st.integers(0, 30), st.integers(1, 5))
def test_stable_order_is_a_stable_sort(data, size, num_keys):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    widths = data.draw(st.lists(st.sampled_from([1, 3, 2**20, 2**40, 2**62]), min_size=num_keys, max_size=num_keys))
    keys = [rng.integers(-3, width, size) for width in widths]
    expected = sorted(range(size), key=lambda row: tuple(int(key[row]) for key in keys))
    assert stable_order(*keys).tolist() == expected


def test_groups_of_a_large_ingest_are_whole(tmp_path):
    """Enough rows for every sort and run to matter; a shuffle of the rows of different times changes nothing."""
    rng = random.Random(5)
    rows = [
        {
            "user": rng.randrange(30),
            "item": rng.randrange(9, 15),
            "category": rng.choice([1, 2, 50, None]),
            "domain": rng.choice(["ads", "content"]),
            "action": rng.choice(["view", "buy"]),
            "timestamp_ms": time,
        }
        for time in range(3000)
    ]
    shuffled = rows[:]
    rng.shuffle(shuffled)
    stores = [
        build_store(tmp_path / name, behaviors=given_rows, taxonomy=TAXONOMY, bridges=BRIDGES, items=ITEMS)
        for name, given_rows in (("a", rows), ("b", shuffled))
    ]
    with BehaviorStore.open(stores[0]) as one, BehaviorStore.open(stores[1]) as two:
        for user, mine in groupby(sorted(rows, key=lambda row: row["user"]), key=lambda row: row["user"]):
            times = [row["timestamp_ms"] for row in mine]
            assert one.history(user).timestamp_ms.tolist() == times
            with one.snapshot() as left, two.snapshot() as right:
                assert left.user(user).columns.node.tolist() == right.user(user).columns.node.tolist()
