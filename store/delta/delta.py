"""The delta: events since the last build, in one LMDB environment that one process writes and any process reads.

Sub-databases; numbers are big-endian in keys and little-endian in values::

    events   sequence number >> 16, 6; user key, 8; sequence number & 0xffff, 2   -> row of `delta_rows`
    deleted  user key, 8                                                          -> sequence number, time
    words    kind, 1; code, 2                                                     -> UTF-8
    names    as in the base
    offsets  name of a source                                                     -> what the source makes of it
    meta     b"format" -> 1, b"sequence" -> the last one given, b"words" -> version of `words`, b"trimmed" -> events up
             to this sequence number may be gone

Behind every value but a row stands a checksum (`seals`); rows have their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.delta.integrity.check import check_delta, check_head
from store.delta.layout import (
    ADVICE,
    DELTA_FOLDER,
    FORMAT,
    MAP_SIZE_BYTES,
    MAX_READERS,
    META_FORMAT,
    NO_WORDS,
    NUM_DATABASES,
    NUMBER,
    DeltaDatabases,
    DeltaWords,
)
from store.delta.transaction import DeltaTransaction
from store.errors import CorruptGenerationError, StoreIOError
from store.files.environment import DATA_FILE, open_shared, translate
from store.publishing.generation import sync_path

if TYPE_CHECKING:
    from pathlib import Path

    from store.files.environment import Environment


class Delta:
    """The delta of one store root. Thread-safe; a process has one environment, shared.

    Example::

        delta = Delta.open(root)  # None where nothing was ever appended
        with delta.begin() as transaction:
            rows = transaction.rows(user, after=snapshot.meta.delta_sequence)
    """

    environment: Environment
    """For writing and copying it."""
    databases: DeltaDatabases
    """Handles of its sub-databases, for its writer."""
    last_words: DeltaWords
    """The newest words that a transaction has read, kept for the next one."""

    def __init__(self, environment: Environment) -> None:
        """Use `open` or `create`."""
        self.environment = environment
        self.last_words = NO_WORDS

    @staticmethod
    def open(root: Path, *, writable: bool = True, map_size_bytes: int = MAP_SIZE_BYTES) -> Delta | None:
        """Opens the delta of a root, None when there is none; creates nothing.

        Args:
            root: Folder of the store.
            writable: Whether this process may become the writer. A process that opens the delta read-only cannot,
                until it has let go of it; but it opens without waiting for a commit that is under way elsewhere.
                Where the file system refuses, the delta is opened read-only.
            map_size_bytes: The first to open it in this process settles it.

        Raises:
            CorruptGenerationError: It is damaged, cut short or of another version.
            StoreIOError: The file system refuses.
        """
        folder = root / DELTA_FOLDER
        if not (folder / DATA_FILE).is_file():
            return None
        try:
            delta = Delta(_open_environment(folder, writable, map_size_bytes))
        except StoreIOError:
            if not writable:
                raise
            delta = Delta(_open_environment(folder, False, map_size_bytes))
        if not delta._open_databases(create=False):
            return None
        delta.environment.reader_check()
        return delta

    @staticmethod
    def create(root: Path, *, map_size_bytes: int = MAP_SIZE_BYTES) -> Delta:
        """Opens the delta of a root for writing, and makes it if need be. The caller holds the writer's lock.

        Raises:
            CorruptGenerationError: It is damaged, cut short or of another version.
            StoreIOError: The file system refuses, or this process has it open read-only.
        """
        folder = root / DELTA_FOLDER
        with translate(folder, advice=ADVICE):
            folder.mkdir(parents=True, exist_ok=True)
        delta = Delta(_open_environment(folder, True, map_size_bytes))
        delta._open_databases(create=True)
        # LMDB syncs the content of its file, not the file's name.
        with translate(folder, advice=ADVICE):
            sync_path(folder)
            sync_path(root)
        delta.environment.reader_check()
        return delta

    def begin(self) -> DeltaTransaction:
        """Begins to read the delta as it is now; about a microsecond.

        Raises:
            StoreIOError: More than 1024 transactions are open, over all processes.
        """
        with translate(self.environment.folder, advice=ADVICE):
            return DeltaTransaction(self)

    def _open_databases(self, *, create: bool) -> bool:
        """Opens the sub-databases; False when another process is just making them: `meta` is made last."""
        folder = self.environment.folder
        try:
            self.databases = DeltaDatabases.open(self.environment, create=create)
        except CorruptGenerationError:
            if self._is_complete():
                raise
            return False
        if create:
            with translate(folder, advice=ADVICE), self.environment.begin(self.databases.meta, write=True) as writing:
                writing.put(META_FORMAT, NUMBER.pack(FORMAT), overwrite=False)
        with self.begin() as transaction:
            version = transaction.format_version
        if version not in (0, FORMAT):
            raise CorruptGenerationError(
                f"{folder}: has format version {version}, this program reads {FORMAT}: upgrade it, or {ADVICE}"
            )
        return version == FORMAT

    def _is_complete(self) -> bool:
        with self.environment.begin() as transaction:
            return transaction.get(b"meta") is not None


def _open_environment(folder: Path, writable: bool, map_size_bytes: int) -> Environment:
    """Opens the environment, if need be, and checks all of it when this process opens it for the first time."""
    check_head(folder)
    try:
        environment = open_shared(
            folder,
            writable=writable,
            max_dbs=NUM_DATABASES,
            map_size_bytes=map_size_bytes,
            max_readers=MAX_READERS,
        )
    except CorruptGenerationError as exc:
        raise CorruptGenerationError(f"{folder / DATA_FILE}: is no delta ({exc.__cause__}); {ADVICE}") from exc
    check_delta(environment)
    return environment
