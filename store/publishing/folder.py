"""A folder of output that appears whole and durable, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from store.errors import InputError, translate_os_errors
from store.publishing.generation import sync_path

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def building_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder beside another one that takes its place when the block ends without an error, on disk by then.

    Raises:
        InputError: The folder exists and is not empty.
        StoreIOError: The file system refused; nothing is left behind.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is there already and not empty; name another one")
    with translate_os_errors(f"{folder}: cannot write"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield building
            # mkdtemp makes folders private.
            building.chmod(0o755)
            for path in (*building.rglob("*"), building):
                sync_path(path)
            building.rename(folder)
            sync_path(folder.parent)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


def size_of(path: Path) -> int:
    """Gives the bytes of a file, or of all files under a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for file in (path, *path.rglob("*")):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total
