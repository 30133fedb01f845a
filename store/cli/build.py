"""Commands that publish a generation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from store.base.sequence import roll_back_store
from store.building.ingest import KEPT, MEMORY_BYTES
from store.building.ingest import ingest as run_ingest
from store.building.ingest import rebuild as run_rebuild
from store.building.retention import Retention
from store.command import StoreOption, output_file, output_folder
from store.publishing.kept import LOCK_FILE
from store.publishing.lock import FileLock
from store.terminal import say, steps, time_text, warn
from store.types import DAY_MS

if TYPE_CHECKING:
    from store.building.options import BuildReport

_MIB = 1 << 20
_SHOWN_BAD_ROWS = 10

MemoryOption = Annotated[int, typer.Option("--memory", min=64, help="Memory to use beside the tables, MiB, about.")]
ShrinkOption = Annotated[
    bool, typer.Option("--shrink-tables", help="Take a table that lacks rows of the store's: these rows go.")
]
KeepOption = Annotated[int, typer.Option(min=1, help="Generations to keep, the new one included.")]


def ingest(
    dataset: Annotated[Path, typer.Option("--input", help="Folder of the input files, see docs/data.md.")],
    store: Annotated[Path, output_folder("--store", "Root of the store; made if it is not there.")],
    replace: Annotated[bool, typer.Option("--replace", help="Start anew instead of adding to what is there.")] = False,
    shrink_tables: ShrinkOption = False,
    max_bad_rows: Annotated[int, typer.Option(min=0, help="Refuse up to this many rows and go on.")] = 0,
    bad_rows: Annotated[Path | None, output_file("--bad-rows", "CSV file to list the refused rows in.")] = None,
    memory_mib: MemoryOption = MEMORY_BYTES // _MIB,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes to use; by default one per core if the input is large.")
    ] = None,
    keep: KeepOption = KEPT,
) -> None:
    """Checks a dataset folder, adds it to the store and publishes the result as the current generation."""
    with steps() as progress:
        report = run_ingest(
            dataset,
            store,
            replace=replace,
            shrink_tables=shrink_tables,
            max_bad_rows=max_bad_rows,
            bad_rows_file=bad_rows,
            memory_bytes=memory_mib * _MIB,
            processes=processes,
            keep=keep,
            progress=progress,
        )
    _show(report)


def rebuild(
    store: StoreOption,
    tables: Annotated[Path | None, typer.Option(help="Folder with tables to take the place of the store's.")] = None,
    shrink_tables: ShrinkOption = False,
    max_age_days: Annotated[int | None, typer.Option(min=1, help="Drop behaviors that are older than that.")] = None,
    max_per_domain: Annotated[
        int | None, typer.Option(min=1, help="Keep only the newest that many of a user's behaviors in each domain.")
    ] = None,
    memory_mib: MemoryOption = MEMORY_BYTES // _MIB,
    processes: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 1,
    keep: KeepOption = KEPT,
) -> None:
    """Merges live events into the next generation and publishes it; erases deleted users, removes old generations."""
    not_before_ms = None if max_age_days is None else time.time_ns() // 1_000_000 - max_age_days * DAY_MS
    with steps() as progress:
        report = run_rebuild(
            store,
            tables=tables,
            shrink_tables=shrink_tables,
            retention=Retention(not_before_ms=not_before_ms, max_per_domain=max_per_domain),
            memory_bytes=memory_mib * _MIB,
            processes=processes,
            keep=keep,
            progress=progress,
        )
    _show(report)


def rollback(
    store: StoreOption,
    to: Annotated[str | None, typer.Option(help="Generation to go back to; default: the one before.")] = None,
) -> None:
    """Makes an older generation current again; live events stay visible."""
    with FileLock(store / LOCK_FILE, "roll back"):
        say(f"current is {roll_back_store(store, to)}; servers follow when they reload")


def _show(report: BuildReport) -> None:
    meta, counts = report.meta, report.counts
    span = report.read_span
    times = {} if span is None else {"    from": time_text(span[0]), "    to": time_text(span[1])}
    say(
        {
            "published": report.generation,
            "users": meta.num_users,
            "behaviors": meta.num_behaviors,
            "  read from files": report.num_read,
            **times,
            "  merged from the delta": report.num_live,
            "  duplicates left out": counts.num_duplicates,
            "  expired": counts.num_expired,
            "  of deleted users": counts.num_deleted,
            "  unmapped": meta.num_unmapped,
            "categories": meta.num_categories,
            "items": meta.num_items,
            "bad rows refused": len(report.bad_rows),
            "parts read by an earlier run": report.num_resumed,
            "generations removed": ", ".join(report.removed) or "none",
            "seconds": f"{report.duration_s:.1f}",
        }
    )
    if report.leftover:
        warn(f"published, but something old is left: {report.leftover}")
    for text in report.warnings:
        warn(f"warning: {text}")
    for row in report.bad_rows[:_SHOWN_BAD_ROWS]:
        warn(f"refused {row}")
