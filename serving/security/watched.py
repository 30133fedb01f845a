"""Small files that an operator replaces while a process runs: read again when they have changed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")
Stamp = tuple[tuple[int, int, int] | None, ...]

CHECK_EVERY_S = 1.0
"""How long a change may go unnoticed."""


def stamp_of(paths: Sequence[Path]) -> Stamp:
    """Gives what tells whether files have changed: inode, size and time of change; None for one that is not there."""
    return tuple(map(_stamp, paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


class Watched(Generic[T]):
    """What some files say, as they are now; what cannot be used is refused, and what was read before stays.

    Thread-safe. Files are looked at when somebody asks, at most once in `CHECK_EVERY_S`: there is no thread to stop.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], T],
        on_change: Callable[[Exception | None], object] = lambda error: None,
        every_s: float = CHECK_EVERY_S,
    ) -> None:
        """Reads the files.

        Args:
            paths: The files.
            read: Reads all of them.
            on_change: Told of every change: None, or why it was refused.
            every_s: Seconds from one look to the next.

        Raises:
            Exception: What `read` raises.
        """
        self._paths = paths
        self._read = read
        self._on_change = on_change
        self._every_s = every_s
        self._lock = threading.Lock()
        self._stamp = stamp_of(paths)
        self._value = read()
        self._look_at_s = time.monotonic() + every_s

    def get(self) -> T:
        """Gives what the files say."""
        if time.monotonic() >= self._look_at_s and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._value

    def _look(self) -> None:
        self._look_at_s = time.monotonic() + self._every_s
        stamp = stamp_of(self._paths)
        if stamp == self._stamp:
            return
        try:
            value = self._read()
            if stamp_of(self._paths) != stamp:
                return  # it is being written: the next look finds it whole
        except Exception as error:
            self._stamp = stamp
            self._on_change(error)
            return
        self._stamp, self._value = stamp, value
        self._on_change(None)
