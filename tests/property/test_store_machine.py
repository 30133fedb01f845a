"""Random life of a store against a model in memory: ingest, append, delete, rebuild, rollback, read.

The model keeps, for every generation, the events that were merged into it, and beside them the log of live events and
deletions. A read of a generation is its events and the log behind it; that is all there is to know.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from store import BehaviorStore, ingest, rebuild, verify
from store.base.sequence import roll_back_store
from store.delta.batch import ACCEPTED, DUPLICATE, REFUSED
from store.errors import InputError
from store.events import EventBatch
from store.live_writer import LiveWriter
from store.publishing.kept import kept_generations
from store.types import NO_ID
from tests.worlds.datasets import write_dataset

TAXONOMY = [
    {"category": 1, "parent": None},
    {"category": 2, "parent": 1},
    {"category": 3, "parent": 1},
    {"category": 9, "parent": None},
]
OTHER_TAXONOMY = [{"category": 2, "parent": None}, {"category": 4, "parent": 2}]
ITEMS = [{"item": 10, "category": 2}, {"item": 11, "category": 3}]
NOW_MS = 1_000
COMPARED = ("item", "category", "domain", "action", "scene", "timestamp_ms", "event_id", "device")
USERS = (1, 2, 3, 2**63 + 5)

EVENT = st.fixed_dictionaries(
    {
        "user": st.sampled_from(USERS),
        "item": st.sampled_from([10, 11, 12]),
        "category": st.sampled_from([1, 2, 3, 4, 9, None]),
        "domain": st.sampled_from(["ads", "content", "live"]),
        "action": st.sampled_from(["click", "buy"]),
        "scene": st.sampled_from(["", "top"]),
        "timestamp_ms": st.integers(1, 30),
        "event_id": st.sampled_from([None, None, None, 5, 6]),
        "device": st.sampled_from([None, 7, 8]),
    }
)
EVENTS = st.lists(EVENT, min_size=1, max_size=8)


@dataclass
class Generation:
    """What a generation holds: events by user, each user's in time order, and how much of the log it has merged."""

    events: dict[int, list[dict]] = field(default_factory=dict)
    merged: int = 0


def identity(event):
    if event["event_id"] is not None:
        return (event["user"], "e", event["event_id"])
    return (event["user"], "i", event["item"], event["action"], event["timestamp_ms"])


def merged(*sources):
    """Events of several sources, the first of equal ones, in time order."""
    seen, kept = set(), []
    for event in (event for source in sources for event in source):
        if identity(event) not in seen:
            seen.add(identity(event))
            kept.append(event)
    return sorted(kept, key=lambda event: event["timestamp_ms"])


class Model:
    def __init__(self):
        self.log = []  # (sequence, event)
        self.graves = {}  # user -> (sequence, time)
        self.sequence = 0
        self.generations = {}
        self.current = ""

    def base(self, generation, user):
        grave = self.graves.get(user, (0, 0))[0]
        return [] if grave > generation.merged else generation.events.get(user, [])

    def live(self, generation, user, up_to=NO_ID):
        after = max(generation.merged, self.graves.get(user, (0, 0))[0])
        return [event for sequence, event in self.log if after < sequence <= up_to and event["user"] == user]

    def events(self, user, name=None, up_to=NO_ID):
        generation = self.generations[name or self.current]
        known = self.base(generation, user) + self.live(generation, user, up_to)
        return sorted(known, key=lambda e: e["timestamp_ms"])

    def append(self, events):
        results = []
        for event in events:
            mine = {identity(known) for known in self.events(event["user"])}
            if (
                event["timestamp_ms"] > NOW_MS + 10
                or event["timestamp_ms"] <= self.graves.get(event["user"], (0, -1))[1]
            ):
                results.append(REFUSED)
            elif identity(event) in mine:
                results.append(DUPLICATE)
            else:
                results.append(ACCEPTED)
                self.sequence += 1
                self.log.append((self.sequence, event))
        return results

    def delete(self, user, now_ms):
        mine = self.events(user)
        self.sequence += 1
        newest = max((event["timestamp_ms"] for event in mine), default=0)
        self.graves[user] = (self.sequence, max(now_ms, newest, self.graves.get(user, (0, 0))[1]))
        return len(mine)

    def build(self, name, events=(), *, replace=False):
        old = Generation(merged=self.generations[self.current].merged if self.current else 0)
        if self.current and not replace:
            old = self.generations[self.current]
        new = Generation(merged=self.sequence)
        for user in USERS:
            until = self.graves.get(user, (0, -1))[1]
            fresh = [e for e in events if e["user"] == user and e["timestamp_ms"] > until]
            new.events[user] = merged(self.base(old, user), fresh, self.live(old, user))
        self.generations[name] = new
        self.current = name


class StoreMachine(RuleBasedStateMachine):
    @initialize(events=EVENTS)
    def start(self, events):
        self.folder = Path(tempfile.mkdtemp())
        self.root = self.folder / "store"
        self.model = Model()
        self.now_ms = NOW_MS
        self.number = 0
        self._ingest(events)
        self.store = BehaviorStore.open(self.root)
        self.lagging = BehaviorStore.open(self.root)
        self.writer = LiveWriter(self.store, now_ms=lambda: self.now_ms, max_skew_ms=10)

    def teardown(self):
        if hasattr(self, "writer"):
            self.writer.close()
            self.store.close()
            self.lagging.close()
            verify(self.root)
            shutil.rmtree(self.folder)

    @rule(events=EVENTS)
    def append(self, events):
        batch = EventBatch(
            user=np.array([e["user"] for e in events], np.uint64),
            item=np.array([e["item"] for e in events], np.uint64),
            category=np.array([NO_ID if e["category"] is None else e["category"] for e in events], np.uint64),
            timestamp_ms=np.array([e["timestamp_ms"] for e in events], np.int64),
            domain=[e["domain"] for e in events],
            action=[e["action"] for e in events],
            scene=[e["scene"] for e in events],
            key=np.array([NO_ID if e["event_id"] is None else e["event_id"] for e in events], np.uint64),
            fields={"device": np.array([np.nan if e["device"] is None else e["device"] for e in events], np.float32)},
        )
        assert self.writer.append(batch).result.tolist() == self.model.append(events)

    @rule(user=st.sampled_from(USERS), now_ms=st.integers(1, 20))
    def delete(self, user, now_ms):
        self.now_ms = now_ms  # a clock that jumps
        assert self.writer.delete_user(user) == self.model.delete(user, now_ms)
        self.now_ms = NOW_MS
        with self.store.snapshot() as snapshot:
            tombstone = snapshot.delta.tombstone(user)
        sequence, at_least = self.model.graves[user]
        assert tombstone.sequence == sequence
        assert tombstone.deleted_ms >= at_least  # events that only older generations hold count too
        self.model.graves[user] = (sequence, tombstone.deleted_ms)

    @rule(events=EVENTS, replace=st.booleans())
    def ingest(self, events, replace):
        self._ingest(events, replace=replace)
        self.store.reload()
        self.writer.trim()

    @rule(keep=st.integers(1, 3), tables=st.sampled_from([None, TAXONOMY, OTHER_TAXONOMY]))
    def rebuild(self, keep, tables):
        folder = None
        if tables is not None:
            self.number += 1
            folder = write_dataset(self.folder / f"tables{self.number}", taxonomy=tables)
        report = rebuild(self.root, keep=keep, tables=folder, shrink_tables=True)
        self.model.build(report.generation)
        self.store.reload()
        self.writer.trim()

    @precondition(lambda self: len(kept_generations(self.root)) > 1)
    @rule(data=st.data())
    def roll_back(self, data):
        name = data.draw(st.sampled_from(kept_generations(self.root)))
        assert roll_back_store(self.root, name) == name
        self.model.current = name
        self.store.reload()

    @rule()
    def catch_up(self):
        self.lagging.reload()

    @rule(data=st.data())
    def read_as_of_a_sequence_number(self, data):
        merged, last = self.model.generations[self.store.generation].merged, self.model.sequence
        up_to = data.draw(st.integers(merged, last))
        with self.store.snapshot(up_to) as snapshot:
            assert snapshot.delta_sequence == up_to
            expected = {user: self.model.events(user, up_to=up_to) for user in USERS}
            assert sorted(snapshot.user_ids()) == sorted(user for user in USERS if expected[user])
            for user in USERS:
                self._compare(snapshot, user, expected[user])
        with self.store.snapshot() as snapshot:
            assert snapshot.delta_sequence == last
        for beyond in {merged - 1, last + 1} - {-1}:
            with pytest.raises(InputError, match=rf"^delta_sequence: {beyond} "):
                self.store.snapshot(beyond)

    @rule()
    def restart(self):
        self.writer.close()
        self.store.close()
        self.store = BehaviorStore.open(self.root)
        self.writer = LiveWriter(self.store, now_ms=lambda: self.now_ms, max_skew_ms=10)

    @invariant()
    def reads_are_what_the_model_says(self):
        if not hasattr(self, "writer"):
            return
        for store in (self.store, self.lagging):
            with store.snapshot() as snapshot:
                assert snapshot.generation == (self.model.current if store is self.store else snapshot.generation)
                expected = {user: self.model.events(user, snapshot.generation) for user in USERS}
                assert sorted(snapshot.user_ids()) == sorted(user for user in USERS if expected[user])
                for user in USERS:
                    self._compare(snapshot, user, expected[user])

    def _compare(self, snapshot, user, expected):
        words, got = snapshot.vocabulary, snapshot.user(user).events()
        (device,) = got.fields
        assert [
            (
                int(got.item[at]),
                None if got.category[at] == NO_ID else int(got.category[at]),
                words.domains[got.stream[at] // 256],
                words.actions[got.stream[at] % 256],
                words.scenes[got.scene[at]],
                int(got.timestamp_ms[at]),
                None if got.key[at] == NO_ID else int(got.key[at]),
                None if np.isnan(device[at]) else int(device[at]),
            )
            for at in range(len(got))
        ] == [tuple(event[name] for name in COMPARED) for event in expected]
        columns = snapshot.user(user).columns
        in_time = columns.order.astype(np.int64)
        assert columns.item[in_time].tolist() == [e["item"] for e in expected]
        assert columns.rank[in_time].tolist() == list(range(len(expected)))
        for section in columns.sections:
            rows = range(section.start, section.stop)
            assert {words.domains[section.domain]} == {expected[int(columns.rank[row])]["domain"] for row in rows}
            assert sorted(rows, key=lambda row: (columns.node[row], columns.rank[row])) == list(rows)

    def _ingest(self, events, *, replace=False):
        self.number += 1
        folder = write_dataset(self.folder / f"in{self.number}", taxonomy=TAXONOMY, items=ITEMS)
        types = {"user": pa.uint64(), "category": pa.uint64(), "event_id": pa.uint64(), "device": pa.float32()}
        table = pa.table({name: pa.array([event[name] for event in events], types.get(name)) for name in events[0]})
        pa.parquet.write_table(table, folder / "behaviors.parquet")
        report = ingest(folder, self.root, replace=replace, keep=3, shrink_tables=True)
        self.model.build(report.generation, events, replace=replace)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=int(os.environ.get("LOOKBACK_MACHINE_RUNS", "6")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
