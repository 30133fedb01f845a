"""What child processes do to a store that is out of room, out of time, or not theirs."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store import BehaviorStore, rebuild
from store.base.sequence import smallest_sequence
from store.delta.batch import ACCEPTED
from store.delta.delta import Delta
from store.delta.writer import DeltaWriter
from store.errors import MapFullError, StoreIOError
from store.live_writer import LiveWriter
from tests.fault.jobs import inspect
from tests.fault.mounts import free_all, leave_free
from tests.worlds import fault_store

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """What came of appends to a disk that ran full."""

    refusals: int
    lost: int
    """Acknowledged events that a read with the disk still full did not see."""
    stop: int
    """The first number not acknowledged."""


def append_until_refused(root: Path, disk: Path, first: int, seed: int) -> Refusals:
    """Appends until the disk is full, then frees it, and appends the same again; twice."""
    rng = random.Random(seed)
    start, refusals, lost = first, 0, 0
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        for _ in range(2):
            refused = 0
            while refused < 3:  # more than once: the first refusal must not spoil the writer
                stop = start + rng.choice((1, 10, 100))
                try:
                    result = writer.append(fault_store.batch(np.arange(start, stop)))
                except StoreIOError:
                    refused += 1
                    continue
                lost += result.num_accepted != stop - start
                start = stop
            refusals += refused
            lost += _count(store) != _count_base(store) + start - first
            free_all(disk)
            result = writer.append(fault_store.batch(np.arange(start, start + 100)))
            start += 100
            lost += result.num_accepted != 100
            leave_free(disk, 100 << 10)
    free_all(disk)
    return Refusals(refusals=refusals, lost=lost, stop=start)


def _count(store: BehaviorStore) -> int:
    with store.snapshot() as snapshot:
        return sum(snapshot.user(user).columns.num_behaviors for user in snapshot.user_ids())


def _count_base(store: BehaviorStore) -> int:
    with store.snapshot() as snapshot:
        return snapshot.meta.num_behaviors


def read_with_many_threads(root: Path, count: int) -> int:
    """Reads in many threads at the same time, each with a place in the table of readers; gives the number of events."""
    ready = threading.Barrier(count)
    failures: list[BaseException] = []

    def read(user: int) -> None:
        try:
            with store.snapshot() as snapshot:
                ready.wait()
                snapshot.user(user).history()
        except BaseException as exc:
            ready.abort()
            failures.append(exc)

    with BehaviorStore.open(root) as store:
        threads = [threading.Thread(target=read, args=(at % fault_store.NUM_USERS,)) for at in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for failure in failures:
            if not isinstance(failure, threading.BrokenBarrierError):
                raise failure
        return _count(store)


def hold_a_snapshot(root: Path) -> None:
    """Reads, and never ends the transaction."""
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        while True:
            snapshot.user(0).history()
            time.sleep(60)


def hold_the_writer(root: Path, held: Path) -> None:
    """Opens the one writer and keeps it."""
    with BehaviorStore.open(root) as store, LiveWriter(store):
        held.touch()
        time.sleep(60)


def hold_the_build(root: Path, held: Path) -> None:
    """Begins a rebuild that never comes to an end."""

    def wait(step: str, done: float, rows: int = 0) -> None:
        held.touch()
        time.sleep(60)

    rebuild(root, progress=wait)


def append_one_by_one(root: Path, first: int, count: int, go: Path) -> int:
    """Opens a writer, waits for a file, then appends one event per commit; gives the size of the delta."""
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        while not go.exists():
            time.sleep(0.01)
        for number in range(first, first + count):
            writer.append(fault_store.batch([number]))
    return (root / "delta" / "data.mdb").stat().st_size


def count_readers(root: Path) -> int:
    """Gives how many places of the readers' table are taken when the delta has been opened and nobody reads."""
    delta = Delta.open(root)
    assert delta is not None
    with delta.begin():
        listed = delta.environment._raw.readers().splitlines()
        return len([line for line in listed if line.split()[0].isdigit()])


def fill_map(root: Path, map_size_bytes: int, first: int, seed: int) -> Refusals:
    """Appends until the delta's map is full, rebuilds and trims, and appends again; twice."""
    rng = random.Random(seed)
    start, refusals, lost = first, 0, 0
    with DeltaWriter(root, map_size_bytes=map_size_bytes) as writer, BehaviorStore.open(root) as store:
        for _ in range(2):
            refused = 0
            while refused < 3:
                stop = start + rng.choice((1, 10, 100))
                try:
                    with store.base_view() as view:
                        (result,) = writer.append([fault_store.batch(np.arange(start, stop))], view)
                except MapFullError:
                    refused += 1
                    continue
                lost += result.num_accepted != stop - start
                start = stop
            refusals += refused
            lost += _count(store) != _count_base(store) + start - first
            first = start
            rebuild(root, keep=1)
            store.reload()
            writer.trim(smallest_sequence(root))
    return Refusals(refusals=refusals, lost=lost, stop=start)


@dataclass(slots=True)
class Jumps:
    """What came of a clock that jumps."""

    jumps: int = 0
    lost: int = 0
    """Events and deletions that were acknowledged and did not stay."""
    wrong: int = 0
    """Events accepted that should not have been, or the other way round, or that came back."""


def append_by_a_jumping_clock(root: Path, seed: int, steps: int) -> Jumps:
    """Appends and deletes by a clock that jumps, and compares the store with a model after each step."""
    rng = random.Random(seed)
    result = Jumps()
    now_ms = fault_store.FIRST_MS
    skew_ms = 1000
    deleted_ms: dict[int, int] = {}
    held = {user: set() for user in range(fault_store.NUM_USERS)}
    for number, user in zip(*(columns := _base_of(root)), strict=True):
        held[user].add(number)
    times = dict(zip(columns[0], fault_store.columns(np.array(columns[0]))["timestamp_ms"].tolist(), strict=True))
    with BehaviorStore.open(root) as store, LiveWriter(store, now_ms=lambda: now_ms, max_skew_ms=skew_ms) as writer:
        for step in range(steps):
            now_ms = fault_store.FIRST_MS + rng.randrange(-fault_store.SPAN_MS // 10, fault_store.SPAN_MS)
            result.jumps += 1
            numbers = np.arange(5000 + step * 20, 5020 + step * 20)
            if rng.random() < 0.3:
                numbers = np.array(rng.choices(range(5000 + step * 20), k=20))  # some of long ago, and of deleted users
            events = fault_store.columns(numbers)
            accepted = writer.append(fault_store.batch(numbers)).result == ACCEPTED
            for at, (item, user, moment) in enumerate(
                zip(events["item"].tolist(), events["user"].tolist(), events["timestamp_ms"].tolist(), strict=True)
            ):
                may = moment <= now_ms + skew_ms and moment > deleted_ms.get(user, -1) and item not in held[user]
                result.wrong += bool(accepted[at]) != may
                if may:
                    held[user].add(item)
                    times[item] = moment
            if rng.random() < 0.2:
                user = rng.randrange(fault_store.NUM_USERS)
                writer.delete_user(user)
                newest = max((times[item] for item in held[user]), default=-1)
                deleted_ms[user] = max(now_ms, newest, deleted_ms.get(user, -1))
                held[user].clear()
            if rng.random() < 0.1:
                rebuild(root, keep=1)
                store.reload()
                writer.trim()
            with store.snapshot() as snapshot:
                for user, items in held.items():
                    found = set(snapshot.user(user).events().item.tolist())
                    result.lost += len(items - found)
                    result.wrong += len(found - items)
    return result


def _base_of(root: Path) -> tuple[list[int], list[int]]:
    numbers = inspect(root).numbers
    return numbers.tolist(), fault_store.users_of(numbers).tolist()
