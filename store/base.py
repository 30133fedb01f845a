"""The base: one immutable LMDB environment per generation. The only module that knows lmdb.

Sub-databases, keys in byte order::

    users    8 bytes, user id big-endian             -> record of `codec`
    names    1 byte kind + 8 bytes, id big-endian    -> UTF-8 name; only where it differs from the decimal id

An environment is opened once per process and shared by everyone who opens the same folder (LMDB forbids a second
time); it closes when the last reader, transaction and array over its memory are gone, so that an array never
outlives the memory it points to.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import lmdb
import numpy as np

from store.errors import CorruptGenerationError, StoreIOError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType


NameKind = Literal["user", "item", "category"]

DATA_FILE = "data.mdb"

_KIND_BYTES: dict[NameKind, bytes] = {"user": b"u", "item": b"i", "category": b"c"}
_USERS = b"users"
_NAMES = b"names"
_MAP_SIZE_BYTES = 1 << 40
"""Address space, not disk: the file grows as it is written."""

_open_environments: weakref.WeakValueDictionary[str, lmdb.Environment] = weakref.WeakValueDictionary()
_open_lock = threading.Lock()


class BaseWriter:
    """Writes a new base into an empty folder, in one transaction; a context manager, not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        with _translate(self._folder):
            self._folder.mkdir(parents=True)
            # No lock file and no sync per page: nobody reads before `__exit__` has synced everything.
            self._environment = lmdb.open(
                str(self._folder), map_size=_MAP_SIZE_BYTES, max_dbs=2, lock=False, sync=False, metasync=False
            )
            self._users = self._environment.open_db(_USERS)
            self._names = self._environment.open_db(_NAMES)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc_type is None:
                with _translate(self._folder):
                    self._environment.sync(True)
        finally:
            self._environment.close()

    def put_users(self, records: Iterable[tuple[int, bytes]]) -> None:
        """Writes records, which must come in ascending order of the user ids.

        Raises:
            StoreIOError: The disk is full, or the ids do not ascend.
        """
        self._append(self._users, ((user.to_bytes(8, "big"), record) for user, record in records))

    def put_names(self, kind: NameKind, names: Iterable[tuple[int, str]]) -> None:
        """Writes names, which must come in ascending order of the ids, and the kinds in the order category, item, user.

        Raises:
            StoreIOError: The disk is full, or the keys do not ascend.
        """
        prefix = _KIND_BYTES[kind]
        self._append(self._names, ((prefix + key.to_bytes(8, "big"), name.encode()) for key, name in names))

    def _append(self, database: lmdb._Database, items: Iterator[tuple[bytes, bytes]]) -> None:
        with _translate(self._folder), self._environment.begin(db=database, write=True) as transaction:
            consumed, added = transaction.cursor().putmulti(items, append=True)
            if consumed != added:
                raise StoreIOError(f"{self._folder}: keys out of order, {consumed - added} of {consumed} not written")


class BaseReader:
    """Reads one base; thread-safe through one `BaseTransaction` per user of it."""

    def __init__(self, folder: Path) -> None:
        """Opens a base whose file has been checked against its manifest (a truncated one would kill the process)."""
        self._folder = folder
        with _translate(folder):
            self._environment = _shared_environment(folder)
            self._users = self._environment.open_db(_USERS, create=False)
            self._names = self._environment.open_db(_NAMES, create=False)

    def begin(self) -> BaseTransaction:
        """Opens a read transaction: about a microsecond."""
        with _translate(self._folder):
            return BaseTransaction(self._environment, self._users, self._names)


class BaseTransaction:
    """Reads of one base, for one thread at a time."""

    def __init__(self, environment: lmdb.Environment, users: lmdb._Database, names: lmdb._Database) -> None:
        self._environment = environment
        self._users = users
        self._names = names
        self._transaction = environment.begin(db=users, buffers=True)

    def close(self) -> None:
        """Ends the transaction; twice does nothing."""
        self._transaction.abort()

    def record(self, user: int) -> memoryview | None:
        """Gives a user's record without a copy, None when there is none. The memory lives as long as the view."""
        value = self._transaction.get(user.to_bytes(8, "big"))
        if value is None:
            return None
        owned = _OwnedBytes((len(value),), np.uint8, value)
        owned.environment = self._environment
        return owned.data

    def name(self, kind: NameKind, key: int) -> str | None:
        """Gives the name of an id, None where it has none."""
        value = self._transaction.get(_KIND_BYTES[kind] + key.to_bytes(8, "big"), db=self._names)
        return None if value is None else bytes(value).decode()

    def user_ids(self) -> Iterator[int]:
        """Gives every user id, ascending."""
        for key in self._transaction.cursor(db=self._users).iternext(keys=True, values=False):
            yield int.from_bytes(key, "big")

    def num_users(self) -> int:
        """Gives how many users there are; O(1)."""
        return int(self._transaction.stat(self._users)["entries"])


class _OwnedBytes(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes of the map that keep its environment open: LMDB's own buffers do not."""

    environment: lmdb.Environment


def _shared_environment(folder: Path) -> lmdb.Environment:
    key = os.path.realpath(folder)
    with _open_lock:
        environment = _open_environments.get(key)
        if environment is None:
            environment = lmdb.open(key, readonly=True, lock=False, max_dbs=2, create=False)
            _open_environments[key] = environment
        return environment


@contextmanager
def _translate(folder: Path) -> Iterator[None]:
    try:
        yield
    except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.NotFoundError) as exc:
        raise CorruptGenerationError(
            f"{folder / DATA_FILE}: LMDB cannot read it ({exc}); run `lookback-store ingest` again"
        ) from exc
    except (lmdb.Error, OSError) as exc:
        raise StoreIOError(f"{folder / DATA_FILE}: LMDB refused ({exc}); free space or fix the permissions") from exc
