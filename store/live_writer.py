"""The writing side of a store: appends and deletions, durable and seen by the next read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.base.sequence import smallest_sequence
from store.closing import Closing
from store.delta.group_commit import Appender
from store.delta.writer import MAX_SKEW_MS, DeltaWriter, system_time_ms
from store.errors import OutdatedGenerationError
from store.files.process import OwnProcess
from store.types import check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from store.behavior_store import BehaviorStore
    from store.delta.batch import AppendResult
    from store.events import EventBatch


class LiveWriter(Closing):
    """Appends events to a store and deletes users, as the one process that may; a context manager. Thread-safe.

    Example::

        with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
            result = writer.append(parse_rows(rows))
    """

    def __init__(
        self,
        store: BehaviorStore,
        *,
        now_ms: Callable[[], int] = system_time_ms,
        max_skew_ms: int = MAX_SKEW_MS,
    ) -> None:
        """Takes the lock of the store's delta.

        Args:
            store: The store; it must outlive the writer.
            now_ms: The clock, milliseconds UTC.
            max_skew_ms: Events further in the future of the clock are refused.

        Raises:
            LockedError: Another process, or another writer of this one, has it; the message says which.
            CorruptGenerationError: The delta is damaged.
            StoreIOError: The file system refuses.
        """
        self._store = store
        self._own = OwnProcess(store.root)
        self._writer = DeltaWriter(store.root, now_ms=now_ms, max_skew_ms=max_skew_ms)
        self._appender = Appender(self._commit)

    def close(self) -> None:
        """Commits what waits, then releases the lock; twice does nothing, and so in a child process."""
        if self._own.is_another:
            return
        self._appender.close()
        self._writer.close()

    def append(self, batch: EventBatch) -> AppendResult:
        """Writes events and returns when they are durable; every read that begins afterwards sees them.

        Appends of several threads at a time share one commit.

        Raises:
            MapFullError: The delta is full: `lookback-store rebuild`.
            StoreIOError: The disk is full. On any error none of the events was written.
            StoreClosedError: The writer was closed, or opened before a fork.
        """
        self._own.check()
        return self._appender.append(batch)

    def append_from(self, source: str, batch: EventBatch, offset: bytes) -> AppendResult:
        """Writes events together with how far their source has been taken in; errors as `append`.

        Args:
            source: Name of the source, and of its partition.
            batch: Its next events.
            offset: Where it goes on; `offset` gives it back.

        Raises:
            InputError: The name is none: empty, no text, or too long with that of its partition.
        """
        self._own.check()
        return self._appender.append(batch, {source: offset})

    def offset(self, source: str) -> bytes | None:
        """Gives how far a source has been taken in; None = not at all. Errors as `append_from`."""
        with self._writer.delta.begin() as transaction:
            return transaction.offset(source)

    def delete_user(self, user: int) -> int:
        """Deletes everything of a user, at once and for good; gives the number of behaviors there were.

        No read that begins afterwards sees any of it, no replay of old events brings it back, and the next rebuild
        erases it from the disk.

        Raises:
            InputError: The user is no id.
            StoreIOError: As `append`.
        """
        self._own.check()
        user = check_id(user, "user")
        with self._store.snapshot() as snapshot:
            columns = snapshot.user(user).columns
            newest_ms = int(columns.timestamp_ms.max(initial=0))
            self._writer.delete_user(user, newest_ms=newest_ms)
            return columns.num_behaviors

    def trim(self) -> int:
        """Frees what every kept generation has merged; gives the number of events removed."""
        return self._writer.trim(smallest_sequence(self._store.root))

    def _commit(self, batches: Sequence[EventBatch], offsets: Mapping[str, bytes]) -> list[AppendResult]:
        while True:
            try:
                with self._store.base_view() as view:
                    return self._writer.append(batches, view, offsets)
            except OutdatedGenerationError:
                self._store.snapshot().close()  # follows the newer one
