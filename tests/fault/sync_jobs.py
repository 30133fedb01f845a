"""Jobs whose system calls are traced. An acknowledgement is a file that is made, so that it stands in the trace."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from store import BehaviorStore
from store.live_writer import LiveWriter
from store.operations.backup import backup
from store.operations.export import export
from store.publishing.generation import GenerationWriter
from store.sources.file_log import FileLogSource
from store.sources.follow import follow
from tests.worlds import fault_store

ACKNOWLEDGED = "acknowledged"


def _acknowledge(root: Path, what: str) -> None:
    (root / f"{ACKNOWLEDGED}-{what}").touch()


def write_live(root: Path) -> None:
    """Appends twice, with the offset of a source, deletes a user; acknowledges each at once."""
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        writer.append(fault_store.batch(np.arange(900, 950)))
        _acknowledge(root, "append")
        writer.append(fault_store.batch([960]))
        _acknowledge(root, "append-of-one")
        writer.append_from("log/0", fault_store.batch([970]), b"17")
        _acknowledge(root, "append-from")
        writer.delete_user(3)
        _acknowledge(root, "delete")


def publish(root: Path) -> None:
    """Publishes a generation with a file in a folder in a folder."""
    with GenerationWriter(root, kind="index") as writer:
        for path in (writer.path / "a", writer.path / "deep" / "deeper" / "b"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"content")
        writer.publish()


def back_up(root: Path) -> None:
    """Copies a store beside itself."""
    backup(root, root.parent / "copy")


def export_it(root: Path) -> None:
    """Exports a store beside itself."""
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        export(snapshot, root.parent / "copy")


def follow_log(folder: Path) -> None:
    """Follows a log of one good and one bad line; a file is made when the store would take the events."""

    def append_from(*_: object) -> SimpleNamespace:
        _acknowledge(folder, "taken")
        return SimpleNamespace(num_accepted=0, num_duplicates=0, num_refused=0, reasons={})

    store = SimpleNamespace(append_from=append_from, offset=lambda _: None)
    asked = itertools.count()
    follow(store, FileLogSource(folder / "log"), stop=lambda: next(asked) > 0, dead_letters=folder / "letters")
