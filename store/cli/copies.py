"""Commands that write a store elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.behavior_store import BehaviorStore
from store.cli.shared import StoreOption, add_row, bar, console, facts, size_text
from store.operations.backup import backup as run_backup
from store.operations.export import export as run_export

ToOption = Annotated[Path, typer.Option("--to", help="Folder to write; must be empty or not exist.")]


def export(store: StoreOption, to: ToOption) -> None:
    """Writes the store back as a dataset folder of Parquet files; `ingest` of it gives the same digest."""
    with bar("export") as progress, BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        report = run_export(snapshot, to, progress=progress)
    table = facts("exported", report.generation)
    add_row(table, "users", f"{report.num_users:,}")
    add_row(table, "behaviors", f"{report.num_behaviors:,}")
    add_row(table, "files", ", ".join(report.files))
    console.print(table)


def backup(store: StoreOption, to: ToOption) -> None:
    """Copies the current generation and the delta, consistent, while the store is in use; the copy is a store."""
    with console.status("copying"):
        report = run_backup(store, to)
    table = facts("copied", report.generation)
    add_row(table, "delta up to sequence number", f"{report.last_sequence:,}")
    add_row(table, "size", size_text(report.size_bytes))
    console.print(table)
