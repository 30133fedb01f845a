"""Runs the whole benchmark of the store, step by step, and gathers its numbers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts.bench.report import note
from scripts.bench.store.appends import Appends, measure_appends
from scripts.bench.store.bulk import Build, disk_by_part, put_raw, run_ingest, run_rebuild
from scripts.bench.store.clicks import Clicks, measure_clicks
from scripts.bench.store.reads import STEADY, Reads, measure_reads
from scripts.bench.store.world import FIRST_EXACT_USER, World
from scripts.bench.timing import in_child
from store.behavior_store import BehaviorStore
from store.live_writer import LiveWriter

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
LIVE_ROWS = (0, 10, 1_000)
"""Live events of each user behind the delta, when reads are measured again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much to measure. The defaults are those of the report."""

    items: int = 200_000
    events: int = 10_000_000
    large: int = 50_000_000
    """Events of the second ingest, which is measured once for its memory; 0 = none."""
    repeats: int = 3
    """Ingests, each followed by its control."""
    lengths: tuple[int, ...] = LENGTHS
    read_repeats: int = 7
    calls: int = 2_000
    appends: int = 1_000_000
    batch_rows: int = 10_000
    singles: int = 2_000
    clicks: Path | None = None
    """Folder of the original click log; None = leave that part out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that was measured."""

    parquet_bytes: int
    ingests: tuple[Build, ...]
    raw_s: tuple[float, ...]
    """Of the control, after each ingest."""
    disk: dict[str, int]
    """Of the generation, by part."""
    large: Build | None
    reads: Reads
    """Nothing was ever appended."""
    appends: Appends
    live_reads: dict[str, Reads]
    """By the number of live events of the user, with the appends of everybody else in the delta."""
    rebuild: Build
    clicks: Clicks | None

    @property
    def all_ingests(self) -> tuple[Build, ...]:
        """Those of generated events."""
        return self.ingests if self.large is None else (*self.ingests, self.large)


def run(work: Path, settings: Settings) -> Results:
    """Measures everything.

    Args:
        work: Empty folder; what is in it afterwards may be removed.
        settings: How much.
    """
    store = work / "store"
    parquet_bytes, ingests, raw_s = _bulk(work, settings)
    disk = disk_by_part(store)
    note("read users of known lengths")
    reads, appends, live_reads = in_child(measure_live, store, work, settings)
    note("rebuild")
    rebuild = in_child(run_rebuild, store)
    shutil.rmtree(store)
    return Results(
        parquet_bytes=parquet_bytes,
        ingests=tuple(ingests),
        raw_s=tuple(raw_s),
        disk=disk,
        large=_large(work, settings) if settings.large else None,
        reads=reads,
        appends=appends,
        live_reads=live_reads,
        rebuild=rebuild,
        clicks=None if settings.clicks is None else measure_clicks(settings.clicks, work, settings),
    )


def _bulk(work: Path, settings: Settings) -> tuple[int, list[Build], list[float]]:
    """Ingests generated events again and again; gives the size of their files, the ingests, and their control's times.

    The store of the last one stays.
    """
    size = _generate(work, settings, settings.events)
    ingests, raw_s = [], []
    for repeat in range(settings.repeats):
        note(f"ingest {settings.events:,} events, {repeat + 1} of {settings.repeats}")
        shutil.rmtree(work / "store", ignore_errors=True)
        ingests.append(in_child(run_ingest, work / "dataset", work / "store"))
        raw_s.append(in_child(put_raw, work / "store", work / "raw"))
    shutil.rmtree(work / "dataset")
    return size, ingests, raw_s


def _large(work: Path, settings: Settings) -> Build:
    _generate(work, settings, settings.large)
    note(f"ingest {settings.large:,} events")
    build = in_child(run_ingest, work / "dataset", work / "store")
    shutil.rmtree(work / "dataset")
    shutil.rmtree(work / "store")
    return build


def _generate(work: Path, settings: Settings, num_events: int) -> int:
    note(f"generate {num_events:,} events")
    return in_child(_write_world, work / "dataset", settings, num_events)


def _write_world(folder: Path, settings: Settings, num_events: int) -> int:
    return World(num_events, settings.items).write(folder)


def measure_live(root: Path, work: Path, settings: Settings) -> tuple[Reads, Appends, dict[str, Reads]]:
    """Adds the exact users to a store and reads them, appends, and reads them again with live events of their own."""
    world = World(settings.events, settings.items)
    world.write_exact(work / "exact", settings.lengths)
    run_ingest(work / "exact", root)
    with BehaviorStore.open(root) as store:
        reads = measure_reads(store, settings.lengths, settings.read_repeats, settings.calls)
    batches = list(world.newer(settings.appends, settings.batch_rows))
    # Behind the batches in time, as live events are.
    last_ms = int(batches[-1].timestamp_ms[-1])
    singles = [world.newer_of(user, 1, last_ms + 1_000) for user in range(settings.singles)]
    crowd = [world.newer_of(user, 1, last_ms + 2_000) for user in range(settings.singles)]
    appends = measure_appends(root, batches, singles, crowd, work / "control")
    live_reads: dict[str, Reads] = {}
    held = 0
    for rows in LIVE_ROWS:
        with BehaviorStore.open(root) as store:
            _append_to_each(store, world, settings, held, rows, last_ms)
            live_reads[str(rows)] = measure_reads(
                store,
                settings.lengths,
                settings.repeats,
                max(settings.calls // 20, 1) if rows else settings.calls,
                kinds=STEADY,
                steady=() if rows else STEADY,
            )
        held = rows
    return reads, appends, live_reads


def _append_to_each(store: BehaviorStore, world: World, settings: Settings, held: int, rows: int, last_ms: int) -> None:
    """Appends to every exact user until that many live events are held."""
    if rows == held:
        return
    with LiveWriter(store) as writer:
        for length in settings.lengths:
            user = FIRST_EXACT_USER + length
            writer.append(world.newer_of(user, rows - held, last_ms + 1 + 1_000 * held))
