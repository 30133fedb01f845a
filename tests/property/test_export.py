"""Whatever a store holds, its export ingests to a store that says the same."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from store import BehaviorStore, ingest, parse_id
from store.operations.digest import digest
from store.operations.export import export
from tests.worlds import living
from tests.worlds.datasets import write_table

IDS = st.one_of(st.integers(0, 6).map(str), st.integers(2**63, 2**64 - 2).map(str), st.sampled_from(["a", "007", "ü"]))
WORDS = st.sampled_from(["ads", "content", "[x]", "ü"])
EVENT = st.fixed_dictionaries(
    {
        "user": IDS,
        "item": IDS,
        "category": st.one_of(st.none(), IDS),
        "domain": WORDS,
        "action": WORDS,
        "scene": st.one_of(st.none(), WORDS),
        "timestamp_ms": st.integers(0, 20),
        "event_id": st.one_of(st.none(), IDS),
        "device": st.one_of(st.none(), IDS),
        "stars": st.one_of(st.none(), st.floats(-(2.0**99), 2.0**99, width=32)),
    }
)
TYPES = {"timestamp_ms": pa.int64(), "stars": pa.float32()}
CATEGORIES = st.lists(IDS, unique=True, max_size=5)


def write_behaviors(folder, events):
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        name: pa.array([event[name] for event in events], TYPES.get(name, pa.string()))
        for name in (
            "user",
            "item",
            "category",
            "domain",
            "action",
            "scene",
            "timestamp_ms",
            "event_id",
            "device",
            "stars",
        )
    }
    pa.parquet.write_table(pa.table(columns), folder / "behaviors.parquet")


def tags_of(snapshot, items):
    found = {}
    for item in items:
        lists = snapshot.items.lookup(np.array([parse_id(item)], np.uint64))["tags"]
        found[item] = lists.values.tolist()
    return found


@given(
    events=st.lists(EVENT, max_size=25),
    live=st.lists(EVENT, max_size=8),
    categories=CATEGORIES,
    items=st.dictionaries(IDS, st.lists(IDS, max_size=3), max_size=4),
    row_group_rows=st.sampled_from([1, 4, 1 << 20]),
)
@settings(max_examples=40, deadline=None)
def test_an_export_ingests_to_the_same_content(events, live, categories, items, row_group_rows):
    folder = Path(tempfile.mkdtemp())
    try:
        source = folder / "in"
        write_behaviors(source, events)
        parents = [None, *categories]
        taxonomy = [
            {"category": category, "parent": parents[at // 2], "name": f"shown {at}"}
            for at, category in enumerate(categories)
        ]
        write_table(source, "taxonomy", taxonomy)
        if items:
            first = (categories or [None])[0]
            write_table(
                source, "items", [{"item": item, "category": first, "tags": tags} for item, tags in items.items()]
            )
        ingest(source, folder / "store")
        if live:
            living.append(folder / "store", live)
        with BehaviorStore.open(folder / "store") as store, store.snapshot() as snapshot:
            expected, rows = digest(snapshot), living.plain_rows(snapshot)
            known = {item: sorted({parse_id(tag) for tag in tags}) for item, tags in items.items()}
            assert tags_of(snapshot, items) == known
            export(snapshot, folder / "out", row_group_rows=row_group_rows, file_rows=8)
        ingest(folder / "out", folder / "again")
        with BehaviorStore.open(folder / "again") as store, store.snapshot() as snapshot:
            assert digest(snapshot) == expected
            assert living.plain_rows(snapshot) == rows
            assert tags_of(snapshot, items) == known
    finally:
        shutil.rmtree(folder)
