"""File systems that are small, or read-only; tests that need them are skipped where they cannot be made."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Gives a folder on a file system of its own, in memory, of that size."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def read_only(folder: Path, place: Path) -> Iterator[Path]:
    """Shows a folder at another place, where nothing of it can be written."""
    place.mkdir()
    _mount("--bind", str(folder), str(place))
    try:
        _mount("-o", "remount,ro,bind", str(place))
        yield place
    finally:
        _unmount(place)


def leave_free(disk: Path, size_bytes: int) -> None:
    """Fills a disk until only so much is free, about a page more or less; frees what was filled before."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    status = os.statvfs(disk)
    surplus = status.f_bavail * status.f_frsize - size_bytes
    if surplus > 0:
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, surplus)


def free_all(disk: Path) -> None:
    """Frees what `leave_free` filled."""
    (disk / "ballast").unlink(missing_ok=True)


def _mount(*args: str) -> None:
    done = subprocess.run(["mount", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


def _unmount(place: Path) -> None:
    # Lazily: what is still mapped of it goes with the last map.
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)
