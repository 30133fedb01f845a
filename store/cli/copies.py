"""Commands that write a store elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from store.behavior_store import BehaviorStore
from store.command import StoreOption, output_folder
from store.operations.backup import backup as run_backup
from store.operations.export import export as run_export
from store.terminal import bar, console, say, size_text

ToOption = Annotated[Path, output_folder("--to", "Folder to write; must be empty or not exist.")]


def export(store: StoreOption, to: ToOption) -> None:
    """Writes the store back as a dataset folder of Parquet files; `ingest` of it gives the same digest."""
    with bar("export") as progress, BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        report = run_export(snapshot, to, progress=progress)
    numbers = {"users": report.num_users, "behaviors": report.num_behaviors}
    say({"exported": report.generation, **numbers, "files": ", ".join(report.files)})


def backup(store: StoreOption, to: ToOption) -> None:
    """Copies the current generation and the delta, consistent, while the store is in use; the copy is a store."""
    with console(stderr=True).status("copying"):
        report = run_backup(store, to)
    size = size_text(report.size_bytes)
    say({"copied": report.generation, "delta up to sequence number": report.last_sequence, "size": size})
