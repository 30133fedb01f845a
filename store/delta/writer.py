"""Writes the delta: appends, deletions and trimming, each in durable transactions, by one process at a time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from store.closing import Closing
from store.delta.checksum import seal
from store.delta.commit import Append
from store.delta.dedupe import SeenEvents
from store.delta.delta import Delta
from store.delta.layout import (
    ADVICE,
    DELTA_FOLDER,
    LOCK_FILE,
    MAP_SIZE_BYTES,
    META_SEQUENCE,
    META_TRIMMED,
    META_WORDS,
    NAME_BYTES,
    NO_WORDS,
    NUMBER,
    Tombstone,
    offset_key,
)
from store.delta.rows import peek_rows
from store.delta.trim import drop_events, remove_user, trim_some
from store.delta.validate import take_in
from store.delta.vocabulary import WriterWords
from store.errors import OutdatedGenerationError, StoreClosedError
from store.files.environment import translate
from store.files.process import OwnProcess
from store.keys import user_key
from store.publishing.lock import FileLock
from store.types import MAX_TIMESTAMP_MS, check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from store.delta.batch import AppendResult, BaseView
    from store.events import EventBatch
    from store.files.environment import Transaction

MAX_SKEW_MS = 300_000
"""How far an event may be in the future of this machine's clock."""
_CHECK_READERS = 64
"""Transactions from one look for dead readers to the next."""


def system_time_ms() -> int:
    """Gives this machine's time, milliseconds UTC."""
    return time.time_ns() // 1_000_000


class DeltaWriter(Closing):
    """The one writer of a store's delta; a context manager. Thread-safe: its transactions take turns.

    Nothing it wrote is lost once a call has returned, and nothing of a call that raised stays.

    Example::

        with DeltaWriter(root) as writer:
            [result] = writer.append([batch], base)
    """

    def __init__(
        self,
        root: Path,
        *,
        now_ms: Callable[[], int] = system_time_ms,
        max_skew_ms: int = MAX_SKEW_MS,
        map_size_bytes: int = MAP_SIZE_BYTES,
    ) -> None:
        """Takes the writer's lock and opens the delta; makes it if need be.

        Args:
            root: Root of the store; it must exist.
            now_ms: Gives the time, milliseconds UTC.
            max_skew_ms: Events further ahead of it are refused.
            map_size_bytes: Address space of the delta.

        Raises:
            LockedError: Another one is open, here or in another process; the message says where.
            CorruptGenerationError: The delta is damaged.
            StoreIOError: The file system refuses.
        """
        self._now_ms = now_ms
        self._max_skew_ms = max_skew_ms
        self._folder = root / DELTA_FOLDER
        self._own = OwnProcess(self._folder)
        self._turn = threading.Lock()
        self._seen: SeenEvents | None = None
        self._num_transactions = 0
        with translate(self._folder, advice=ADVICE):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._folder / LOCK_FILE, "append to the store")
        self._lock.__enter__()
        try:
            self._delta: Delta | None = Delta.create(root, map_size_bytes=map_size_bytes)
            with self._delta.begin() as transaction:
                self._words = WriterWords(transaction.words())
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Lets another one write; twice does nothing, and so in a child process: the writer is its parent's."""
        if self._own.is_another:
            return
        with self._turn:
            self._delta = self._seen = None
            self._lock.release()

    @property
    def delta(self) -> Delta:
        """What it writes, for reading.

        Raises:
            StoreClosedError: The writer was closed, or another process's.
        """
        self._own.check()
        if self._delta is None:
            raise StoreClosedError(f"{self._folder}: this writer was closed; open another one")
        return self._delta

    def append(
        self, batches: Sequence[EventBatch], base: BaseView, offsets: Mapping[str, bytes] | None = None
    ) -> list[AppendResult]:
        """Writes batches of events in one transaction, and returns when it is durable.

        Of equal events the first one stays: those of the generation and of the delta come before all others, then
        batches and rows count in their order.

        Args:
            batches: Events.
            base: The current generation.
            offsets: How far sources have been taken in, to be stored in the same transaction.

        Returns:
            What became of each event, per batch.

        Raises:
            InputError: A source's name is none.
            OutdatedGenerationError: Events that the generation lacks have been trimmed already: a newer one is current.
            MapFullError: The delta's address space is used up.
            StoreIOError: The disk is full. In all these cases nothing was written.
            StoreClosedError: The writer was closed.
        """
        self._own.check()
        keys = {offset_key(source): offset for source, offset in (offsets or {}).items()}
        intake = take_in(batches, base.fields, self._now_ms(), self._max_skew_ms)
        with self._turn:
            databases = self.delta.databases
            try:
                with self._guard(), self._begin() as transaction:
                    self._check_base(transaction, base)
                    last = databases.number(transaction, META_SEQUENCE)
                    append = Append(transaction, databases, self._words, self._seen_events(transaction), intake, base)
                    last, version = append.run(last)
                    for key, offset in keys.items():
                        transaction.put(key, seal(key, offset), db=databases.offsets)
            except BaseException:
                self._words.abort()
                raise
            self._words.commit(version)
            self._seen_events(None).add(*append.written)
        return intake.results(last)

    def delete_user(self, user: int, *, newest_ms: int = 0) -> Tombstone:
        """Removes a user's events and name from the delta and hides those of every generation, durably and for good.

        Events up to the time of the deletion, or of the user's newest event if that is later, never come back.

        Args:
            user: User id; an unknown one gets a tombstone too.
            newest_ms: Time of the user's newest behavior in the generation, milliseconds UTC.

        Raises:
            InputError: The user is no id.
            StoreIOError: As `append`.
        """
        self._own.check()
        user = check_id(user, "user")
        key = user_key(user)
        with self._turn:
            databases = self.delta.databases
            with self._guard(), self._begin() as transaction:
                values = remove_user(transaction, databases, key)
                transaction.delete(NAME_BYTES["user"] + user.to_bytes(8, "big"), db=databases.names)
                # Read without the checksum: damage must not stand in the way of a deletion.
                newest = int(peek_rows(values).timestamp_ms.max(initial=0))
                before = transaction.get(key, db=databases.deleted)
                deleted_ms = max(self._now_ms(), newest_ms, newest)
                if before is not None:
                    deleted_ms = max(deleted_ms, Tombstone.unpack(key, before).deleted_ms)
                sequence = databases.number(transaction, META_SEQUENCE) + 1
                tombstone = Tombstone(sequence=sequence, deleted_ms=min(deleted_ms, MAX_TIMESTAMP_MS))
                transaction.put(key, tombstone.pack(key), db=databases.deleted)
                transaction.put(META_SEQUENCE, NUMBER.pack(sequence), db=databases.meta)
        return tombstone

    def trim(self, up_to: int) -> int:
        """Removes the events up to a sequence number; appends go on in between. Tombstones stay.

        The caller sees to it that every generation that is kept has merged them.

        Args:
            up_to: Last sequence number to remove.

        Returns:
            Number of events removed.

        Raises:
            CorruptRecordError: A row is damaged.
            StoreIOError: As `append`. What was removed stays removed; trimming again removes the rest.
        """
        self._own.check()
        removed = 0
        position: bytes | None = b"\0"
        while position is not None:
            with self._turn:
                words = self._words
                with self._guard(), self._begin() as transaction:
                    databases = self.delta.databases
                    trimmed = max(up_to, databases.number(transaction, META_TRIMMED))
                    transaction.put(META_TRIMMED, NUMBER.pack(trimmed), db=databases.meta)
                    if databases.number(transaction, META_SEQUENCE) <= up_to:
                        count, position = drop_events(transaction, databases), None
                        words = self._drop_words(transaction)
                    else:
                        count, position = trim_some(transaction, databases, position, up_to)
                self._words = words
                if self._seen is not None:
                    self._seen.forget(up_to)
            removed += count
        return removed

    def _drop_words(self, transaction: Transaction[bytes]) -> WriterWords:
        """Removes every word, so that words of events that are no longer kept do not count towards the limits."""
        databases = self.delta.databases
        if transaction.stat(databases.words)["entries"] == 0:
            return self._words
        version = self._words.version + 1
        transaction.drop(databases.words, delete=False)
        transaction.put(META_WORDS, NUMBER.pack(version), db=databases.meta)
        return WriterWords(replace(NO_WORDS, version=version))

    def _seen_events(self, transaction: Transaction[bytes] | None) -> SeenEvents:
        """Gives the hashes of all events; the first call reads them."""
        if self._seen is None:
            assert transaction is not None
            self._seen = SeenEvents.load(transaction.cursor(self.delta.databases.events))
        return self._seen

    def _check_base(self, transaction: Transaction[bytes], base: BaseView) -> None:
        trimmed = self.delta.databases.number(transaction, META_TRIMMED)
        if base.delta_sequence < trimmed:
            raise OutdatedGenerationError(
                f"{self._folder}: is trimmed up to {trimmed}, but the open generation has merged only up to "
                f"{base.delta_sequence}: open the current one"
            )

    def _begin(self) -> Transaction[bytes]:
        environment = self.delta.environment
        self._num_transactions += 1
        if self._num_transactions % _CHECK_READERS == 0:
            # The slot of a killed reader keeps the pages of its transaction from being reused until it is cleared.
            environment.reader_check()
        return environment.begin(write=True)

    def _guard(self) -> AbstractContextManager[None]:
        return translate(self._folder, advice=ADVICE)


def open_delta(root: Path) -> Delta:
    """Opens the delta of a root for reading, after making it if need be.

    Raises:
        LockedError: There is none, and another process is just making it.
        CorruptGenerationError: It is damaged.
        StoreIOError: The file system refuses.
    """
    delta = Delta.open(root)
    if delta is None:
        DeltaWriter(root).close()  # makes it
        delta = Delta.open(root)
        assert delta is not None
    return delta
