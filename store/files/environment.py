"""LMDB environments, opened once per process. The only module that knows lmdb.

LMDB forbids to open an environment twice in a process. So all who open a folder share one `Environment`, and it
closes by itself when its last holder is gone.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import lmdb

from store.errors import (
    ADVICE_BY_ERRNO,
    CorruptGenerationError,
    MapFullError,
    MissingGenerationError,
    StoreIOError,
    advice_for,
)
from store.files.registry import Registry

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lmdb import Cursor, Transaction
    from lmdb import _Database as Database

__all__ = [
    "DATA_FILE",
    "MAX_KEY_BYTES",
    "Cursor",
    "Database",
    "Environment",
    "Transaction",
    "copy",
    "create",
    "open_shared",
    "translate",
]

DATA_FILE = "data.mdb"
MAX_KEY_BYTES = 511
"""Of every key, as LMDB is built."""
_LOCK_FILE = "lock.mdb"
_READER_BYTES = 64
"""What a reader takes in the lock file, which begins with a head of twice that."""

_INGEST_AGAIN = "run `lookback-store ingest --replace`"
_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.NotFoundError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
)


class Environment:
    """One open environment. Thread-safe.

    Keep this object for as long as any transaction of it.
    """

    __slots__ = ("__weakref__", "_raw", "folder", "writable")

    def __init__(self, raw: lmdb.Environment, folder: Path, *, writable: bool) -> None:
        """Use `open_shared` or `create`."""
        self._raw = raw
        self.folder = folder
        self.writable = writable

    def begin(self, database: Database | None = None, *, write: bool = False) -> Transaction[bytes]:
        """Begins a transaction; about a microsecond for one that reads. One that writes waits for the one before.

        Args:
            database: Default of its methods.
            write: Whether it may write.
        """
        # Given positionally: half a microsecond less than by keyword.
        return self._raw.begin(database, None, write)

    def open_db(self, name: bytes, *, create: bool = False) -> Database:
        """Opens a sub-database. No transaction of this thread may be open.

        Raises:
            CorruptGenerationError: It is not there, and not to be created.
        """
        with translate(self.folder):
            return self._raw.open_db(name, create=create)

    def sync(self) -> None:
        """Writes everything through to the disk."""
        with translate(self.folder):
            self._raw.sync(True)

    def reader_check(self) -> int:
        """Clears what readers that died left in the lock file, and gives how many there were."""
        with translate(self.folder):
            return self._raw.reader_check()

    def info(self) -> dict[str, int]:
        """Gives `map_size`, `last_pgno`, `last_txnid`, `max_readers` and `num_readers`."""
        return dict(self._raw.info())  # type: ignore[arg-type]

    def close(self) -> None:
        """Closes an environment of `create`; a shared one closes by itself."""
        self._raw.close()


def create(folder: Path, *, max_dbs: int, map_size_bytes: int) -> Environment:
    """Makes a new environment for one writer, in a folder that it makes too.

    There is no lock file, and nothing is synced until `Environment.sync`: it must not be read before.

    Args:
        folder: Must not exist; its parents are made.
        max_dbs: Number of sub-databases.
        map_size_bytes: Address space, not disk: the file grows as it is written.

    Raises:
        StoreIOError: The file system refused.
    """
    with translate(folder):
        folder.mkdir(parents=True)
        raw = lmdb.open(str(folder), map_size=map_size_bytes, max_dbs=max_dbs, lock=False, sync=False, metasync=False)
        return Environment(raw, folder, writable=True)


def open_shared(
    folder: Path,
    *,
    writable: bool,
    max_dbs: int,
    map_size_bytes: int | None = None,
    max_readers: int = 126,
    lock: bool = True,
) -> Environment:
    """Opens an environment, or gives the one that this process has open there. Thread-safe.

    The first one to open a folder settles its options; it stays open for as long as the result is held anywhere.
    A child process opens its own: what it inherited must not be used.

    Args:
        folder: Where `data.mdb` is; it must exist. If it is writable and has none, one is made.
        writable: Whether to open it for writing too, with every commit synced to the disk.
        max_dbs: Number of sub-databases.
        map_size_bytes: Address space, to be set once and never to be exceeded; None = as large as the file is.
        max_readers: Reading transactions at a time, over all processes.
        lock: Whether readers are noted in a lock file: yes, unless it is never written again.

    Raises:
        MissingGenerationError: There is no file, and it is to be read.
        CorruptGenerationError: The file is no environment.
        StoreIOError: The file system refused; or it is to be writable, and is open read-only in this process.
    """
    name = os.path.realpath(folder)
    options: dict[str, Any] = {"max_dbs": max_dbs, "max_readers": max_readers, "lock": lock}
    if map_size_bytes is not None:
        options["map_size"] = map_size_bytes
    with translate(folder):
        environment = _registry.get(
            name,
            identity=lambda: _identity(name),
            open_raw=lambda: _open(name, writable, options),
            hold=lambda raw: Environment(raw, folder, writable=not raw.flags()["readonly"]),
        )
    if writable and not environment.writable:
        raise StoreIOError(f"{folder}: is open read-only in this process; close it there to write to it")
    return environment


def copy(environment: Environment, folder: Path) -> None:
    """Writes a consistent, compact copy of an environment while others read and write it.

    Args:
        environment: What to copy.
        folder: Where to; it must be an empty folder.

    Raises:
        StoreIOError: The file system refused; what was written so far must be removed.
    """
    with translate(folder):
        environment._raw.copy(str(folder), compact=True)


def translate(folder: Path, *, advice: str = _INGEST_AGAIN) -> AbstractContextManager[None]:
    """Turns the errors of LMDB and of the file system into those of the store.

    Args:
        folder: What the message names.
        advice: What to do when the file is damaged.

    Raises:
        CorruptGenerationError: The file is damaged, of another version, or not there.
        MapFullError: The address space is used up.
        StoreIOError: Anything else.
    """
    return _Translation(folder, advice)


class _Translation:
    """A class, not a generator: it stands in every read."""

    __slots__ = ("_advice", "_folder")

    def __init__(self, folder: Path, advice: str) -> None:
        self._folder = folder
        self._advice = advice

    def __enter__(self) -> None:
        return None

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if exc is None or not isinstance(exc, lmdb.Error | OSError):
            return
        file = self._folder / DATA_FILE
        if isinstance(exc, _DAMAGED):
            raise CorruptGenerationError(f"{file}: LMDB cannot read it ({exc}); {self._advice}") from exc
        if isinstance(exc, lmdb.MapFullError):
            raise MapFullError(
                f"{file}: the map is full, and every earlier commit intact ({exc}); run `lookback-store rebuild "
                "--keep 1`, which empties the delta, or open it with a larger map"
            ) from exc
        if isinstance(exc, lmdb.ReadersFullError):
            raise StoreIOError(f"{file}: too many readers at once ({exc}); close some, or raise max_readers") from exc
        raise StoreIOError(f"{self._folder}: {exc}; {_advice(exc)}") from exc


_BY_TYPE: dict[type[lmdb.Error], str] = {
    lmdb.DiskError: ADVICE_BY_ERRNO[errno.ENOSPC],
    lmdb.MemoryError: ADVICE_BY_ERRNO[errno.ENOMEM],
    lmdb.ReadonlyError: "it is open for reading only; this is a fault of the program",
    lmdb.BadValsizeError: f"a key is empty or longer than {MAX_KEY_BYTES} bytes; this is a fault of the program",
    lmdb.DbsFullError: "too many sub-databases; this is a fault of the program",
    lmdb.TxnFullError: "too much in one transaction: append smaller batches",
    lmdb.MapResizedError: "another process has opened it with a larger map: open the store again",
    lmdb.BadRslotError: "the process was forked, or a thread holds two snapshots; this is a fault of the program",
    lmdb.LockError: "its lock file cannot be used: use a local file system",
}


def _advice(exc: lmdb.Error | OSError) -> str:
    """Says what to do about an error: LMDB gives those of the system by name, their number or their text alone."""
    if isinstance(exc, OSError):
        return advice_for(exc)
    if type(exc) in _BY_TYPE:
        return _BY_TYPE[type(exc)]
    found = (advice for number, advice in ADVICE_BY_ERRNO.items() if os.strerror(number) in str(exc))
    return next(found, "see what else has the file open, and the kernel's log")


def _open(name: str, writable: bool, options: dict[str, Any]) -> lmdb.Environment:
    if not writable and _identity(name) is None:
        raise MissingGenerationError(f"{os.path.join(name, DATA_FILE)}: is not there; {_INGEST_AGAIN}")
    if options["lock"]:
        _allocate_lock_file(os.path.join(name, _LOCK_FILE), options["max_readers"])
    # A finished transaction that is kept for the next one keeps its place in the lock file, and a forked child that
    # ends would give that up. Without one a read of the delta takes a tenth of a microsecond longer.
    spare = 0 if options["lock"] else 1
    return lmdb.open(name, readonly=not writable, create=writable, max_spare_txns=spare, **options)


def _allocate_lock_file(path: str, max_readers: int) -> None:
    """Takes the room that the lock file needs on the disk: it is written through a map, which on a full disk is fatal.

    The environment must not be open in this process, for to close a file gives up the process's locks on it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        if exc.errno in (errno.EROFS, errno.EACCES):
            return  # LMDB sees to that
        raise
    try:
        # A file that is there keeps its size: others have mapped as much of it.
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size or _READER_BYTES * (max_readers + 2))
    finally:
        os.close(descriptor)


def _identity(name: str) -> tuple[int, int] | None:
    """Tells data files apart, for a folder may be removed and made again."""
    try:
        status = os.stat(os.path.join(name, DATA_FILE))
    except OSError:
        return None
    return status.st_dev, status.st_ino


_registry: Registry[lmdb.Environment, Environment] = Registry()
