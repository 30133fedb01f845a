"""The base of a generation: the records of all users in one file, and an LMDB environment that finds them.

`records.bin` holds the records of `codec` back to back. `data.mdb` holds, keys in byte order::

    users    8 bytes, key of the user (`keys`), big-endian   -> where its record begins, and its size: 2 x u64
    names    1 byte kind + 8 bytes, id big-endian            -> UTF-8 name; only where it differs from the decimal id

Records are not values of LMDB because its Python binding touches every page of a value that it hands out, which would
make any read of a user as slow as the user's past is long (docs/adr/0006).
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING, Self

import numpy as np

from store.closing import Closing
from store.errors import MissingGenerationError, StoreIOError
from store.files.environment import DATA_FILE, create, open_shared, translate
from store.keys import unmix_one, user_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from store.files.environment import Database, Environment
    from store.records.block_codec import EncodedBlock
    from store.types import NameKind

RECORDS_FILE = "records.bin"
FILES = (DATA_FILE, RECORDS_FILE)
"""What a base consists of. Check these before opening them: a map of a truncated file kills the process."""

_KIND_BYTES: dict[NameKind, bytes] = {"category": b"c", "item": b"i", "user": b"u", "value": b"v"}
_USERS = b"users"
_NAMES = b"names"
_MAX_DBS = 2
_MAP_SIZE_BYTES = 1 << 40
"""Address space, not disk: the file grows as it is written."""
_BUFFER_BYTES = 1 << 20
_PLACE = struct.Struct("<QQ")
"""Where a record begins, and its size."""


class BaseWriter:
    """Writes a new base into a folder that it makes; a context manager, not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._environment = create(self._folder, max_dbs=_MAX_DBS, map_size_bytes=_MAP_SIZE_BYTES)
        self._users = self._environment.open_db(_USERS, create=True)
        self._names = self._environment.open_db(_NAMES, create=True)
        with translate(self._folder):
            self._records = (self._folder / RECORDS_FILE).open("wb", _BUFFER_BYTES)
        self._end = 0
        return self

    def __exit__(self, exc_type: object, *_: object) -> None:
        try:
            with translate(self._folder), self._records:
                if exc_type is None:
                    self._records.flush()
                    os.fsync(self._records.fileno())
                    self._environment.sync()
        finally:
            self._environment.close()

    def put_block(self, block: EncodedBlock) -> None:
        """Writes the records of many users, and commits. Cost: a write of all of them, and half a microsecond a user.

        Args:
            block: Its keys ascend over all calls.

        Raises:
            StoreIOError: The disk is full, or the keys do not ascend.
        """
        with translate(self._folder):
            self._records.write(block.data.data)
        places = np.empty((len(block.users), 2), "<u8")
        places[:, 0] = self._end + block.offsets[:-1]
        places[:, 1] = np.diff(block.offsets)
        self._end += len(block.data)
        self._append(self._users, zip(block.keys(), places.view("V16")[:, 0].tolist(), strict=True))

    def put_names(self, kind: NameKind, names: Iterable[tuple[int, str]]) -> None:
        """Writes names, and commits.

        Args:
            kind: What they name. The kinds come in the order category, item, user, value.
            names: Ids ascending over all calls of the kind, with their names.

        Raises:
            StoreIOError: The disk is full, or the keys do not ascend.
        """
        prefix = _KIND_BYTES[kind]
        self._append(self._names, ((prefix + key.to_bytes(8, "big"), name.encode()) for key, name in names))

    def _append(self, database: Database, items: Iterable[tuple[bytes, bytes]]) -> None:
        with translate(self._folder), self._environment.begin(database, write=True) as transaction:
            consumed, added = transaction.cursor().putmulti(items, append=True)
            if consumed != added:
                raise StoreIOError(f"{self._folder}: keys out of order, {consumed - added} of {consumed} not written")


class BaseReader:
    """Reads one base; thread-safe through one `BaseTransaction` per user of it."""

    def __init__(self, folder: Path) -> None:
        """Opens a base whose `FILES` have been checked against their manifest.

        Raises:
            GenerationError: A file is not there, or damaged.
            StoreIOError: The file system refused.
        """
        self._folder = folder
        self._environment = open_shared(folder, writable=False, max_dbs=_MAX_DBS, lock=False)
        self._users = self._environment.open_db(_USERS)
        self._names = self._environment.open_db(_NAMES)
        with translate(folder):
            self._records = _map(folder / RECORDS_FILE)

    def begin(self) -> BaseTransaction:
        """Opens a read transaction: about a microsecond."""
        with translate(self._folder):
            return BaseTransaction(self._environment, self._users, self._names, self._records)


class BaseTransaction(Closing):
    """Reads of one base, for one thread at a time; a context manager."""

    def __init__(self, environment: Environment, users: Database, names: Database, records: memoryview) -> None:
        self._environment = environment
        self._users = users
        self._names = names
        self._records = records
        self._transaction = environment.begin(users)

    def close(self) -> None:
        """Ends the transaction; twice does nothing."""
        self._transaction.abort()

    def record(self, user: int) -> memoryview | None:
        """Gives a user's record, None when there is none.

        Cost: the same for every length, and no byte of the record is read. The memory lives as long as the view.
        """
        place = self._transaction.get(user_key(user))
        if place is None:
            return None
        start, size = _PLACE.unpack(place)
        return self._records[start : start + size]

    def records(self, first_key: bytes | None, end_key: bytes | None) -> Iterator[tuple[int, memoryview]]:
        """Gives users and their records as `record` does, in the order of the keys.

        Args:
            first_key: First key, 8 bytes; None = from the beginning.
            end_key: First key that is not given any more; None = to the end.
        """
        cursor = self._transaction.cursor(db=self._users)
        if not (cursor.first() if first_key is None else cursor.set_range(first_key)):
            return
        for key, place in cursor.iternext():
            if end_key is not None and key >= end_key:
                return
            start, size = _PLACE.unpack(place)
            yield unmix_one(int.from_bytes(key, "big")), self._records[start : start + size]

    def name(self, kind: NameKind, key: int) -> str | None:
        """Gives the name of an id, None where it has none."""
        value = self._transaction.get(_KIND_BYTES[kind] + key.to_bytes(8, "big"), db=self._names)
        return None if value is None else value.decode()

    def names(self, kind: NameKind) -> Iterator[tuple[int, str]]:
        """Gives every id of a kind that has a name, with its name, ascending by id."""
        cursor = self._transaction.cursor(db=self._names)
        prefix = _KIND_BYTES[kind]
        if cursor.set_range(prefix):
            for key, name in cursor.iternext():
                if key[:1] != prefix:
                    return
                yield int.from_bytes(key[1:], "big"), name.decode()

    def user_ids(self) -> Iterator[int]:
        """Gives every user id, in the order of the keys."""
        for key in self._transaction.cursor(db=self._users).iternext(keys=True, values=False):
            yield unmix_one(int.from_bytes(key, "big"))


def _map(path: Path) -> memoryview:
    """Maps a file for reading; it stays mapped for as long as a view of it lives."""
    if not path.is_file():
        raise MissingGenerationError(f"{path}: is not there; run `lookback-store ingest --replace`")
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
