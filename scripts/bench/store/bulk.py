"""Bulk ingest, its control, and what it leaves on the disk."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from scripts.bench.timing import StepTimes, one_core, peak_rss_mib
from store.behavior_store import BehaviorStore
from store.building.ingest import ingest, rebuild
from store.files.environment import create
from store.keys import user_key
from store.publishing.generation import current_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from store.building.options import BuildReport

_USERS_PER_COMMIT = 512
"""Of the control; about what a partition of the store's own build holds at 500 events a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One ingest or rebuild on one core, in the calling process."""

    events: int
    """Behaviors that were read, duplicates too; of a rebuild: those that it holds."""
    held: int
    """Behaviors of the generation it published."""
    users: int
    seconds: float
    cpu_s: float
    peak_rss_mib: float
    steps_s: dict[str, float]

    @property
    def events_per_s(self) -> float:
        """Rate over the whole call, the published and synced generation included."""
        return self.events / self.seconds


def run_ingest(dataset: Path, root: Path) -> Build:
    """Adds a dataset folder to a store."""
    return _timed(partial(ingest, dataset, root))


def run_rebuild(root: Path) -> Build:
    """Merges base and delta of a store to its next base."""
    build = _timed(partial(rebuild, root))
    return replace(build, events=build.held)


def _timed(build: Callable[..., BuildReport]) -> Build:
    with one_core():
        steps, cpu_s, start_s = StepTimes(), time.process_time(), time.perf_counter()
        report = build(processes=1, progress=steps)
        seconds = time.perf_counter() - start_s
    return Build(
        events=report.num_read,
        held=report.meta.num_behaviors,
        users=report.meta.num_users,
        seconds=seconds,
        cpu_s=time.process_time() - cpu_s,
        peak_rss_mib=peak_rss_mib(),
        steps_s=steps.seconds(),
    )


def put_raw(root: Path, folder: Path) -> float:
    """Gives the seconds that LMDB takes to put the ready-made records of a store, in order, and to sync them once.

    Args:
        root: A store; its records are read into memory before.
        folder: Where to put them; removed again.
    """
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        records = [(user_key(user), bytes(record)) for user, record in snapshot.base.records(None, None)]
    with one_core():
        start_s = time.perf_counter()
        environment = create(folder, max_dbs=1, map_size_bytes=1 << 40)
        database = environment.open_db(b"users", create=True)
        for start in range(0, len(records), _USERS_PER_COMMIT):
            with environment.begin(database, write=True) as transaction:
                transaction.cursor().putmulti(records[start : start + _USERS_PER_COMMIT], append=True)
        environment.sync()
        seconds = time.perf_counter() - start_s
    environment.close()
    shutil.rmtree(folder)
    return seconds


def disk_by_part(root: Path) -> dict[str, int]:
    """Gives the bytes that the parts of a store's current generation take on the disk, whole blocks."""
    generation = root / "generations" / current_name(root, "store")
    return {path.name: disk_bytes(path) for path in sorted(generation.iterdir())}


def disk_bytes(path: Path) -> int:
    """Gives the bytes that a file or a folder takes on the disk, whole blocks."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_blocks * 512 for file in files)
