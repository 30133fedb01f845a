"""A lock file that tells who holds it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import time
import weakref
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from store.errors import LockedError, StoreIOError, advice_for

if TYPE_CHECKING:
    from pathlib import Path

_TRIES = 5
_PAUSE_S = 0.01
_NO_FLOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """Who holds a lock, as written by itself."""

    pid: int
    host: str
    command: str
    purpose: str
    since: str
    """UTC, ISO 8601."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}), since {self.since}, to {self.purpose}"


class FileLock:
    """Excludes every other holder, in this process and in others, for as long as the context lasts.

    The lock is the kernel's (`flock`), so that it ends with the process, however that dies; the file stays. A process
    forked meanwhile does not hold it. Not thread-safe: one context at a time.

    Example::

        with FileLock(root / "delta" / "writer.lock", "append events"):
            ...
    """

    def __init__(self, path: Path, purpose: str) -> None:
        """Prepares a lock.

        Args:
            path: The file; its folder must exist.
            purpose: What the lock is held for, continuing "to ...".
        """
        self._path = path
        self._purpose = purpose
        self._file: int | None = None

    def __enter__(self) -> Self:
        """Takes the lock, or fails at once.

        Raises:
            LockedError: It is held; the message says by whom, since when and what to do.
            StoreIOError: The file cannot be opened or written.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise StoreIOError(f"{self._path}: cannot open the lock ({exc}); {advice_for(exc)}") from exc
        try:
            _take(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self._introduce().encode(), 0)
        except BlockingIOError as exc:
            text = _who(_read(descriptor))
            os.close(descriptor)
            raise LockedError(
                f"{self._path}: held by {text}; wait for it or end it: the lock ends with the process, never remove "
                "the file"
            ) from exc
        except OSError as exc:
            os.close(descriptor)
            how = "use a file system with flock" if exc.errno in _NO_FLOCK else advice_for(exc)
            raise StoreIOError(f"{self._path}: cannot lock ({exc}); {how}") from exc
        self._file = descriptor
        _held.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Gives the lock up; twice does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            _held.discard(self)

    def _introduce(self) -> str:
        holder = LockHolder(
            pid=os.getpid(),
            host=socket.gethostname(),
            command=" ".join(sys.argv),
            purpose=self._purpose,
            since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        return json.dumps(asdict(holder))


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    # What a child inherits would keep the lock for as long as it lives, long after its parent has given it up.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_leave_to_parent)


def lock_holder(path: Path) -> LockHolder | None:
    """Gives who holds a lock now, None when it is free; for reports.

    Raises:
        StoreIOError: The file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StoreIOError(f"{path}: cannot read the lock ({exc}); {advice_for(exc)}") from exc
    try:
        # Shared, so that two who only ask do not take one another for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor) or LockHolder(pid=0, host="?", command="?", purpose="?", since="?")
    finally:
        os.close(descriptor)
    return None


def _take(descriptor: int) -> None:
    for _ in range(_TRIES - 1):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)  # `lock_holder` holds the lock while it asks
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read(descriptor: int) -> LockHolder | None:
    try:
        return LockHolder(**json.loads(os.pread(descriptor, 1 << 16, 0)))
    except (ValueError, TypeError):
        return None  # taken a moment ago and not yet signed


def _who(holder: LockHolder | None) -> str:
    return "a process that has not signed yet" if holder is None else str(holder)
