"""Adds a dataset folder to a store, and rebuilds one: both publish a generation at once, or nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from store.building.build import build
from store.building.event_files import find_behavior_files
from store.building.options import BuildOptions, BuildReport
from store.building.retention import Retention
from store.dataset.bad_rows import BadRows
from store.publishing.generation import current_name

if TYPE_CHECKING:
    from pathlib import Path

    from store.building.options import Progress

MEMORY_BYTES = 1 << 30
"""What a build may use by default, beside the tables."""
KEPT = 3
"""Generations that stay by default."""
_LARGE_ROWS = 4_000_000
"""From here on it pays to start processes."""


def _quiet(step: str, done: float, rows: int = 0) -> None:
    """Ignores all progress."""


def ingest(
    dataset: Path,
    root: Path,
    *,
    replace: bool = False,
    shrink_tables: bool = False,
    max_bad_rows: int = 0,
    bad_rows_file: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
    processes: int | None = None,
    keep: int = KEPT,
    progress: Progress = _quiet,
) -> BuildReport:
    """Adds the behaviors of a dataset folder (docs/data.md) to a store and publishes the result as current.

    Nothing is lost and nothing doubled: what the store holds stays, what it holds already is passed over, and live
    events are merged. Tables of the folder take the place of the store's. An ingest that was killed goes on where it
    was when it is run again with the same files.

    Args:
        dataset: Folder of the input files.
        root: Store to publish in; made if need be.
        replace: Drop what earlier builds published, and start from this folder and the live events not merged yet.
        shrink_tables: Take a table that lacks rows of the store's, too.
        max_bad_rows: Rows that may be refused, over all files.
        bad_rows_file: CSV file to list refused rows in, also when there are too many.
        memory_bytes: Memory to use beside the tables, about.
        processes: Processes to use; None = one per core if the input is large.
        keep: Generations to keep, the new one included.
        progress: Called at every step.

    Raises:
        TooManyBadRowsError: More bad rows than allowed.
        InputError: A file is missing or unreadable, the taxonomy is no tree, or a table lacks rows of the store's.
        LockedError: Another process publishes there.
        GenerationError: The current generation is damaged.
        StoreIOError: The disk is full, or not writable. In every case nothing is published.
    """
    files = find_behavior_files(dataset)
    if processes is None:
        processes = (os.cpu_count() or 1) if files.estimated_rows >= _LARGE_ROWS else 1
    options = BuildOptions(
        files=files,
        tables=(dataset,),
        shrink_tables=shrink_tables,
        replace=replace,
        memory_bytes=memory_bytes,
        processes=processes,
        retention=Retention(),
        keep=keep,
    )
    bad_rows = BadRows(max_bad_rows)
    try:
        return build(root, options, bad_rows, progress)
    finally:
        if bad_rows_file is not None:
            bad_rows.write(bad_rows_file)


def rebuild(
    root: Path,
    *,
    tables: Path | None = None,
    shrink_tables: bool = False,
    retention: Retention | None = None,
    memory_bytes: int = MEMORY_BYTES,
    processes: int = 1,
    keep: int = KEPT,
    progress: Progress = _quiet,
) -> BuildReport:
    """Merges the base and the delta of a store to the next base; deleted users are erased.

    Args:
        root: The store.
        tables: Folder with some of the four tables, to take the place of the store's; None = they stay.
        shrink_tables: As for `ingest`.
        retention: What to drop; None = nothing.
        memory_bytes: Memory to use beside the tables, about.
        processes: Processes to use.
        keep: Generations to keep, the new one included. One that still holds a user deleted since is not kept.
        progress: Called at every step.

    Raises:
        MissingGenerationError: Nothing is published there yet.
        InputError: A table is unreadable, no tree, or lacks rows of the store's.
        LockedError: Another process publishes there.
        GenerationError: The current generation is damaged.
        StoreIOError: The disk is full, or not writable. In every case nothing is published.
    """
    current_name(root, "store")
    options = BuildOptions(
        files=None,
        tables=() if tables is None else (tables,),
        shrink_tables=shrink_tables,
        replace=False,
        memory_bytes=memory_bytes,
        processes=processes,
        retention=retention if retention is not None else Retention(),
        keep=keep,
    )
    return build(root, options, BadRows(0), progress)
