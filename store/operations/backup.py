"""Copies a live store: the current generation and the delta, as one consistent store of its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.base.meta import read_meta
from store.delta.delta import Delta
from store.delta.layout import DELTA_FOLDER
from store.errors import MissingGenerationError, StoreIOError
from store.files import environment
from store.publishing.folder import building_folder, size_of
from store.publishing.generation import current_name, open_generation, swap_current

if TYPE_CHECKING:
    from pathlib import Path

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What a backup copied."""

    generation: str
    last_sequence: int
    """Of the delta: everything acknowledged up to it is in the backup; 0 = there was no delta."""
    size_bytes: int


def backup(root: Path, folder: Path) -> BackupReport:
    """Copies the current generation and the delta; appends, reads and builds go on meanwhile.

    The copy holds everything that was acknowledged before the call, in base or delta, and opens as a store. Its files
    are checked against their manifest after they were copied.

    Args:
        root: The store.
        folder: Where to; must be empty or not exist.

    Raises:
        InputError: The folder is not empty.
        MissingGenerationError: Nothing is published yet.
        CorruptGenerationError: The generation or the delta is damaged.
        StoreIOError: The disk is full, or generations came and went faster than they could be copied.
    """
    with building_folder(folder) as building:
        for _ in range(_ATTEMPTS):
            name = current_name(root, "store")
            last_sequence = _copy(root, name, building)
            # What the delta held behind this generation may be trimmed once the generation is gone, not before: if it
            # is still there, the copy of the delta, made before this look, lacks nothing.
            if last_sequence is not None and (root / "generations" / name).is_dir():
                break
            for part in building.iterdir():
                shutil.rmtree(part)
        else:
            raise StoreIOError(
                f"{root}: every generation was removed while it was copied; keep more of them (`--keep`), then run "
                "`lookback-store backup` again"
            )
        copied = open_generation(building, "store", name)
        swap_current(building, name)
        sequence = max(last_sequence, read_meta(copied).delta_sequence)
        return BackupReport(generation=name, last_sequence=sequence, size_bytes=size_of(building))


def _copy(root: Path, name: str, building: Path) -> int | None:
    """Copies a generation, then the delta; gives the delta's last sequence number, None if the generation vanished."""
    source = root / "generations" / name
    try:
        open_generation(root, "store", name, check_content=False)
        shutil.copytree(source, building / "generations" / name)
    except (FileNotFoundError, shutil.Error, MissingGenerationError):
        if source.is_dir():
            raise
        return None
    delta = Delta.open(root, writable=False)
    if delta is None:
        return 0
    target = building / DELTA_FOLDER
    target.mkdir()
    environment.copy(delta.environment, target)
    copied = Delta.open(building, writable=False)
    assert copied is not None, "a delta was copied"
    with copied.begin() as transaction:
        return transaction.last_sequence
