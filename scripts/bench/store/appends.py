"""Live appends, durable one by one and in batches, and the bare LMDB commit of the same bytes."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scripts.bench.store.bulk import disk_bytes
from scripts.bench.timing import Spread
from store.behavior_store import BehaviorStore
from store.delta.delta import Delta
from store.delta.layout import META_SEQUENCE, NUMBER, split_event_keys
from store.files.environment import open_shared
from store.live_writer import LiveWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from store.delta.batch import AppendResult
    from store.events import EventBatch

CALLERS = 16
_ROUNDS = 5
"""Number of times that appends and their control alternate, so that both see the same disk."""
_MAP_SIZE_BYTES = 64 << 30

Entry = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commits:
    """Appends of one kind, and what LMDB alone took for the same bytes."""

    commits: int
    events: int
    accepted: int
    duplicates: int
    p50_ms: float
    p95_ms: float
    control_p50_ms: float
    control_p95_ms: float
    p50_ms_by_round: Spread
    events_per_s: float
    """Over all commits."""
    control_events_per_s: float
    events_per_s_by_round: Spread

    @property
    def share_of_lmdb(self) -> float:
        """Part of the time that the bare commit of the same bytes takes."""
        return self.events_per_s / self.control_events_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Appends:
    """What appends cost."""

    batches: Commits
    singles: Commits
    crowd_events_per_s: float | None
    """Single events, durable, of `CALLERS` callers at once; None = not measured."""
    delta_bytes_per_event: float
    """On the disk, growth over all appends."""


class BareLmdb:
    """The control: an environment of its own, with the same entries in the same commits, as durable."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._environment = open_shared(folder, writable=True, max_dbs=2, map_size_bytes=_MAP_SIZE_BYTES)
        self._events = self._environment.open_db(b"events", create=True)
        self._meta = self._environment.open_db(b"meta", create=True)

    def commit(self, entries: list[Entry], last: int) -> float:
        """Puts entries and the last sequence number in one transaction, durably; gives the seconds."""
        start_s = time.perf_counter()
        with self._environment.begin(write=True) as transaction:
            transaction.cursor(self._events).putmulti(entries)
            transaction.put(META_SEQUENCE, NUMBER.pack(last), db=self._meta)
        return time.perf_counter() - start_s


def measure_appends(
    root: Path,
    batches: Sequence[EventBatch],
    singles: Sequence[EventBatch],
    crowd: Sequence[EventBatch],
    control: Path,
) -> Appends:
    """Appends batches, then single events, to a store with no other user.

    Args:
        root: The store.
        batches: Events to append, one transaction each.
        singles: Batches of one event, appended by one caller.
        crowd: Batches of one event, appended by many callers at once; may be empty.
        control: Folder for the control, on the same disk; removed again.
    """
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        bare = BareLmdb(control)
        before = disk_bytes(root / "delta")
        in_batches = _measure(root, writer, batches, bare)
        one_by_one = _measure(root, writer, singles, bare)
        grown = disk_bytes(root / "delta") - before
        crowd_rate = _rate_of_crowd(writer, crowd) if crowd else None
    del bare
    shutil.rmtree(control)
    return Appends(
        batches=in_batches,
        singles=one_by_one,
        crowd_events_per_s=crowd_rate,
        delta_bytes_per_event=grown / max(in_batches.accepted + one_by_one.accepted, 1),
    )


def _measure(root: Path, writer: LiveWriter, batches: Sequence[EventBatch], bare: BareLmdb) -> Commits:
    delta = Delta.open(root)
    assert delta is not None, "the writer has made it"
    ours: list[list[float]] = []
    control: list[list[float]] = []
    events: list[int] = []
    results: list[AppendResult] = []
    for numbers in np.array_split(np.arange(len(batches)), min(_ROUNDS, len(batches))):
        with delta.begin() as transaction:
            before = transaction.last_sequence
        seconds, found = _append(writer, [batches[number] for number in numbers])
        ours.append(seconds)
        events.append(sum(len(batches[number]) for number in numbers))
        results += found
        bounds = [result.sequence for result in found]
        written = _written(delta, before, bounds)
        control.append([bare.commit(entries, last) for entries, last in zip(written, bounds, strict=True)])
    flat, bare_s = np.concatenate(ours), np.concatenate(control)
    return Commits(
        commits=len(results),
        events=sum(events),
        accepted=sum(result.num_accepted for result in results),
        duplicates=sum(result.num_duplicates for result in results),
        p50_ms=float(np.percentile(flat, 50)) * 1e3,
        p95_ms=float(np.percentile(flat, 95)) * 1e3,
        control_p50_ms=float(np.percentile(bare_s, 50)) * 1e3,
        control_p95_ms=float(np.percentile(bare_s, 95)) * 1e3,
        p50_ms_by_round=Spread.of([float(np.median(part)) * 1e3 for part in ours]),
        events_per_s=sum(events) / float(flat.sum()),
        control_events_per_s=sum(events) / float(bare_s.sum()),
        events_per_s_by_round=Spread.of([count / sum(part) for count, part in zip(events, ours, strict=True)]),
    )


def _append(writer: LiveWriter, batches: Sequence[EventBatch]) -> tuple[list[float], list[AppendResult]]:
    seconds, results = [], []
    for batch in batches:
        start_s = time.perf_counter()
        result = writer.append(batch)
        seconds.append(time.perf_counter() - start_s)
        results.append(result)
    _check(results)
    return seconds, results


def _check(results: Sequence[AppendResult]) -> None:
    for result in results:
        if result.num_refused:
            raise RuntimeError(f"an event of the benchmark was refused: {next(iter(result.reasons.values()))}")


def _rate_of_crowd(writer: LiveWriter, crowd: Sequence[EventBatch]) -> float:
    with ThreadPoolExecutor(CALLERS) as pool:
        start_s = time.perf_counter()
        results = list(pool.map(writer.append, crowd))
        seconds = time.perf_counter() - start_s
    _check(results)
    return len(crowd) / seconds


def _written(delta: Delta, before: int, bounds: Sequence[int]) -> list[list[Entry]]:
    """Gives the entries that each commit put among the events, in the order of their keys.

    Args:
        delta: Where to look.
        before: Last sequence number before the first commit.
        bounds: Last sequence number of each commit.
    """
    with delta.environment.begin(delta.databases.events) as transaction:
        entries = list(transaction.cursor(delta.databases.events).iternext())
    sequence = split_event_keys([key for key, _ in entries])[1].astype(np.int64)
    commit = np.searchsorted([before, *bounds], sequence, side="left") - 1
    written: list[list[Entry]] = [[] for _ in bounds]
    for at in np.flatnonzero(commit >= 0).tolist():
        written[commit[at]].append(entries[at])
    return written
