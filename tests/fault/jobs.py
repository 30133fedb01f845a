"""What the child processes do."""

from __future__ import annotations

import _strptime  # noqa: F401 (what the store imports when it needs it is to be there before the fork)
import encodings.ascii  # noqa: F401
import os
import random
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.ma

from store import BehaviorStore, ingest, rebuild, verify
from store.base.sequence import roll_back_store
from store.live_writer import LiveWriter
from store.publishing.kept import LOCK_FILE
from store.publishing.lock import FileLock
from tests.worlds import fault_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def ingest_into(root: Path, dataset: Path, options: dict[str, Any] | None = None) -> str:
    """Ingests, and gives the name of the generation."""
    return ingest(dataset, root, **(options or {})).generation


def rebuild_it(root: Path, keep: int = 2) -> str:
    """Rebuilds, and gives the name of the generation."""
    return rebuild(root, keep=keep).generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a store gave when it was opened and read whole."""

    numbers: Any
    """Events, ascending, repeated where they came twice."""
    wrong: int
    """Rows that nobody wrote like that, and users whose answers do not agree with one another."""
    deleted: tuple[int, ...]
    """Users with a tombstone."""
    others: tuple[Any, ...]
    """Names and offsets."""
    open_s: float
    """Of CPU, to open it again."""
    digest: str
    generation: str


def inspect(root: Path) -> Found:
    """Opens a store, reads every user in every way, audits it."""
    numbers = [np.empty(0, np.uint64)]
    wrong = 0
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        for user in snapshot.user_ids():
            events = snapshot.user(user).events()
            columns = snapshot.user(user).columns
            numbers.append(events.item)
            wrong += fault_store.wrong_rows(user, events, snapshot.vocabulary)
            wrong += not np.array_equal(columns.item[columns.order].astype(np.uint64), events.item)
        generation = snapshot.generation
        others = (*snapshot.names("item"), *snapshot.names("user"))
        deleted = ()
        if snapshot.delta is not None:
            deleted = tuple(user for user, _ in snapshot.delta.deleted())
            others = (*others, *snapshot.delta.offsets())
    return Found(
        deleted=deleted,
        others=others,
        numbers=np.sort(np.concatenate(numbers)),
        wrong=wrong,
        open_s=min(_time_to_open(root) for _ in range(2)),
        digest=verify(root).digest,
        generation=generation,
    )


def _time_to_open(root: Path) -> float:
    """Gives the CPU seconds: how long one waits is up to whatever else the machine does."""
    started_s = time.process_time()
    with BehaviorStore.open(root):
        return time.process_time() - started_s


def inspect_twice(root: Path, job: Callable[..., Any], *args: Any) -> tuple[Found, Found]:
    """Inspects a store, runs a job on it, and inspects it again."""
    before = inspect(root)
    job(*args)
    return before, inspect(root)


class Journal:
    """What a writer set out to do and what was acknowledged, in a file that outlives it.

    It is written to the page cache, which a killed process leaves whole.

    A line is `+ TASK FIRST STOP` or `- TASK USER` before a call, and `! TASK` after it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._tasks = 0
        self._lock = threading.Lock()

    def append(self, writer: LiveWriter, first: int, stop: int) -> None:
        """Appends events [first, stop)."""
        task = self._note(f"+ {{}} {first} {stop}\n")
        writer.append(fault_store.batch(np.arange(first, stop)))
        os.write(self._descriptor, f"! {task}\n".encode())

    def delete(self, writer: LiveWriter, user: int) -> None:
        """Deletes a user."""
        task = self._note(f"- {{}} {user}\n")
        writer.delete_user(user)
        os.write(self._descriptor, f"! {task}\n".encode())

    def _note(self, line: str) -> str:
        with self._lock:
            self._tasks += 1
            task = f"{os.getpid()}-{self._tasks}"
        os.write(self._descriptor, line.format(task).encode())
        return task


def append_some(root: Path, first: int, stop: int) -> None:
    """Appends events [first, stop)."""
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        writer.append(fault_store.batch(np.arange(first, stop)))


def append_named(root: Path, first: int, stop: int) -> None:
    """Appends events [first, stop) with names for their ids, one call each, and how far their source is taken in."""
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        for number in range(first, stop):
            events = fault_store.batch([number])
            names = {"item": {number: f"item {number}"}, "user": {int(events.user[0]): f"user {events.user[0]}"}}
            writer.append_from(f"log/{number % 3}", replace(events, names=names), b"%d" % number)


def append_for_ever(root: Path, journal: Path, first: int, seed: int, threads: int) -> None:
    """Appends batches of events from some threads, repeats some of them, deletes a user now and then."""
    log = Journal(journal)
    lock = threading.Lock()
    position = first
    failures: list[BaseException] = []

    def work(number: int) -> None:
        nonlocal position
        rng = random.Random(seed + number)
        while not failures:
            with lock:
                start, position = position, position + rng.randint(1, 30)
                stop = position
            log.append(writer, start, stop)
            if rng.random() < 0.1:
                log.append(writer, start, stop)
            if rng.random() < 0.01:
                log.delete(writer, rng.randrange(fault_store.NUM_USERS))

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as exc:
            failures.append(exc)

    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        workers = [threading.Thread(target=guarded, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    raise failures[0]


def delete_some(root: Path, users: list[int]) -> None:
    """Deletes users."""
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        for user in users:
            writer.delete_user(user)


def rebuild_at(root: Path, now_ns: int) -> str:
    """Rebuilds while the clock says something else."""
    time.time_ns = lambda: now_ns
    return rebuild(root, keep=3).generation


def roll_back_it(root: Path) -> str:
    """Goes back to the generation before."""
    with FileLock(root / LOCK_FILE, "go back"):
        return roll_back_store(root)
