"""A store with everything in it: two generations, live events and a deleted user."""

from collections import Counter

import numpy as np

import store.reading.user_view
from store import BehaviorStore, ingest, parse_id
from store.base.files import BaseTransaction
from store.dataset.json_rows import parse_rows
from store.delta.transaction import DeltaTransaction
from store.live_writer import LiveWriter
from tests.worlds import sample
from tests.worlds.datasets import build_store, write_dataset

NOW_MS = 1_000

BEHAVIORS = [
    {**event, "device": device, "stars": stars, "event_id": key}
    for event, device, stars, key in zip(
        [*sample.BEHAVIORS, sample.event("bo", 70, 2, 5), sample.event("cy", 71, 101, 6, "content", "view")],
        ["phone", None, "tv", "7", None, None, "phone", "tv", "phone"],
        [None, 1.5, 2.0, None, None, 3.0, None, 4.0, 5.0],
        ["one", None, None, "2", None, None, None, None, "3"],
        strict=True,
    )
]
LIVE = [
    sample.event("anna", 70, None, 60, "ads", "buy", scene="side"),  # a new action and scene
    sample.event("anna", 555, 101, 15, "live", "view", device="watch", stars=0.5),  # out of order, a new domain
    sample.event("new", 556, 404, 8, "content", "view", event_id="n-1"),
    sample.event("cy", 71, None, 7, "content", "view"),
]


def tables(**changed):
    return {**sample.tables(), "behaviors": BEHAVIORS, **changed}


def append(root, rows, *, now_ms=NOW_MS):
    """Appends events and gives what became of them."""
    with BehaviorStore.open(root) as store, LiveWriter(store, now_ms=lambda: now_ms) as writer:
        return writer.append(parse_rows(rows, kinds_of(store)))


def delete(root, user, *, now_ms=NOW_MS):
    """Deletes a user."""
    with BehaviorStore.open(root) as store, LiveWriter(store, now_ms=lambda: now_ms) as writer:
        return writer.delete_user(user)


def kinds_of(store):
    with store.snapshot() as snapshot:
        return snapshot.meta.behavior_fields


def build(folder):
    """Gives the root of a store of two generations with live events behind the second one; user `bo` is deleted."""
    root = build_store(folder, **tables(behaviors=BEHAVIORS[:4]))
    ingest(write_dataset(folder / "more", behaviors=BEHAVIORS[4:]), root)
    result = append(root, LIVE)
    assert result.num_accepted == len(LIVE), result
    delete(root, parse_id("bo"))
    return root


def plain_rows(snapshot):
    """Gives every event of a snapshot as a tuple, user by user, read one by one."""
    words = snapshot.vocabulary
    rows = []
    for user in snapshot.user_ids():
        events = snapshot.user(user).events()
        for at in range(len(events)):
            kinds = snapshot.meta.behavior_fields
            fields = {name: values[at] for (name, _), values in zip(kinds, events.fields, strict=True)}
            rows.append(
                (
                    user,
                    int(events.item[at]),
                    int(events.category[at]),
                    int(events.timestamp_ms[at]),
                    words.domains[events.stream[at] // 256],
                    words.actions[events.stream[at] % 256],
                    words.scenes[events.scene[at]],
                    int(events.key[at]),
                    {name: value for name, value in fields.items() if not is_missing(value)},
                )
            )
    return rows


def is_missing(value):
    return bool(np.isnan(value)) if isinstance(value, np.floating) else int(value) == 2**64 - 1


def count_lookups(monkeypatch):
    """Counts, from now on, how often a user's record, tombstone and live rows are read, and a record is decoded."""
    counts = Counter()
    reads = [(BaseTransaction, "record"), (DeltaTransaction, "tombstone"), (DeltaTransaction, "rows")]
    for owner, name in [*reads, (store.reading.user_view, "decode_user"), (store.reading.user_view, "decode_extras")]:
        monkeypatch.setattr(owner, name, _counted(getattr(owner, name), counts, name))
    return counts


def _counted(call, counts, name):
    def counted(*args, **kwargs):
        counts[name] += 1
        return call(*args, **kwargs)

    return counted
