"""Whatever a store holds, its export ingests to a store that says the same."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from store import BehaviorStore, ingest, parse_id
from store.operations.digest import digest
from store.operations.export import export
from tests.worlds import living
from tests.worlds.datasets import write_table
from tests.worlds.drawn import EVENT, IDS, write_behaviors

CATEGORIES = st.lists(IDS, unique=True, max_size=5)


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
