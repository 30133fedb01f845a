"""Steady traffic on one store: a process that appends from some threads, and processes that read and compare.

Thread `k` of the writer appends events `(k + 1) * LANE`, `+ 1`, ... in order, one call after another, and keeps a
journal of its own. So every read of a user must show of each thread a prefix of that user's events, and at least what
was acknowledged before the read began.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store import BehaviorStore
from store.live_writer import LiveWriter
from tests.fault.jobs import Journal
from tests.worlds import fault_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LANE = 1_000_000
EVENTS_PER_CALL = 5
PAUSE_S = 0.002


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs a function in some threads with their numbers; raises the first error of any."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def append_steadily(root: Path, journals: Sequence[Path], stop_file: Path) -> None:
    """Appends a few events at a time until a file appears, going on where the journals end; follows generations."""
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:

        def append(number: int) -> None:
            first = Position(journals[number], number).read()[0]
            log = Journal(journals[number])
            while not stop_file.exists():
                log.append(writer, first, first + EVENTS_PER_CALL)
                first += EVENTS_PER_CALL
                time.sleep(PAUSE_S)
                if number == 0 and store.reload():
                    writer.trim()

        in_threads(len(journals), append)


@dataclass(slots=True)
class Seen:
    """What readers saw while others wrote."""

    reads: int = 0
    reloads: int = 0
    lost: int = 0
    """Reads that lacked an event acknowledged before they began."""
    wrong: int = 0
    """Reads with an event that was not written, or that lacked one written before another that they had."""


def read_steadily(root: Path, journals: Sequence[Path], stop_file: Path, seed: int, threads: int) -> Seen:
    """Reads random users until a file appears, and compares each read with the journals of the writer's threads.

    What of a user is in no journal must be the same in every read: it was there from the start.
    """
    total = Seen()
    lock = threading.Lock()
    with BehaviorStore.open(root) as store:
        with store.snapshot() as snapshot:
            base = {
                user: int(np.count_nonzero(snapshot.user(user).columns.item < LANE))
                for user in range(fault_store.NUM_USERS)
            }

        def read(number: int) -> None:
            rng = random.Random(seed + number)
            positions = [Position(path, at) for at, path in enumerate(journals)]
            seen = Seen()
            while not stop_file.exists():
                seen.reloads += rng.random() < 0.1 and store.reload()
                user = rng.randrange(fault_store.NUM_USERS)
                acknowledged = [position.read()[0] for position in positions]
                with store.snapshot() as snapshot:
                    events = snapshot.user(user).events()
                    columns = snapshot.user(user).columns
                    wrong = fault_store.wrong_rows(user, events, snapshot.vocabulary)
                numbers = np.sort(events.item)
                wrong += not np.array_equal(np.sort(columns.item).astype(np.uint64), numbers)
                wrong += np.count_nonzero(numbers < LANE) != base[user]
                lost = 0
                for position, least in zip(positions, acknowledged, strict=True):
                    position.read()
                    own = position.events_of(user)
                    mine = numbers[numbers // LANE == position.lane]
                    lost += len(mine) < np.searchsorted(own, least)
                    wrong += not np.array_equal(mine, own[: len(mine)])
                seen.lost += lost > 0
                seen.wrong += wrong > 0
                seen.reads += 1
                time.sleep(PAUSE_S / 2)
            with lock:
                total.reads += seen.reads
                total.reloads += seen.reloads
                total.lost += seen.lost
                total.wrong += seen.wrong

        in_threads(threads, read)
    return total


class Position:
    """How far one thread of the writer has come, by its journal."""

    def __init__(self, path: Path, thread: int) -> None:
        self.lane = thread + 1
        self._path = path
        self._offset = 0
        self._ends: dict[str, int] = {}
        self._acknowledged = self._written = self._sorted = self.lane * LANE
        self._events = [np.empty(0, np.uint64)] * fault_store.NUM_USERS

    def read(self) -> tuple[int, int]:
        """Gives the first event that is not acknowledged, and the first that nobody set out to write, as of now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            data = data[: data.rfind(b"\n") + 1]
            self._offset += len(data)
            for line in data.decode().splitlines():
                kind, task, *rest = line.split()
                if kind == "+":
                    self._ends[task] = self._written = int(rest[1])
                else:
                    self._acknowledged = self._ends.pop(task)
        return self._acknowledged, self._written

    def events_of(self, user: int):
        """Gives the events of a user that the thread had set out to write at the last `read`, in order."""
        if self._written > self._sorted:
            numbers = np.arange(self._sorted, self._written, dtype=np.uint64)
            users = fault_store.users_of(numbers)
            for each in np.unique(users).tolist():
                self._events[each] = np.concatenate((self._events[each], numbers[users == np.uint64(each)]))
            self._sorted = self._written
        return self._events[user]
