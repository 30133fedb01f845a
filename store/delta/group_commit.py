"""Group commit: appends of many threads in few transactions."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

from store.closing import Closing
from store.errors import StoreClosedError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from store.delta.batch import AppendResult
    from store.events import EventBatch

MAX_ROWS = 65_536
"""Rows of one transaction, about: a batch that is larger goes alone."""


class Commit(Protocol):
    """Writes batches in one transaction, or raises and writes nothing."""

    def __call__(self, batches: Sequence[EventBatch], offsets: Mapping[str, bytes]) -> list[AppendResult]:
        """Gives what became of each batch, once it is durable."""
        ...


class Appender(Closing):
    """Takes batches from any number of threads and commits what waits together; a context manager. Thread-safe.

    There is no thread of its own: of the callers that wait, one commits for all while the others sleep. So a single
    caller pays nothing, and of many each waits for two commits at most, the one under way and its own (while no more
    than `max_rows` rows wait).
    """

    def __init__(self, commit: Commit, *, max_rows: int = MAX_ROWS) -> None:
        """Commits through a function.

        Args:
            commit: Called by one thread at a time.
            max_rows: Rows of one transaction, about.
        """
        self._commit = commit
        self._max_rows = max_rows
        self._committing = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._closed = False

    def append(self, batch: EventBatch, offsets: Mapping[str, bytes] | None = None) -> AppendResult:
        """Writes a batch, and returns when it is durable.

        Args:
            batch: Events.
            offsets: How far sources have been taken in, for the same transaction.

        Raises:
            StoreError: What the commit raised, for every caller in it; nothing of their batches was written.
            StoreClosedError: The appender was closed.
        """
        mine = _Waiting(batch, offsets or {})
        self._waiting.append(mine)
        with self._committing:
            while mine.result is None and mine.error is None:
                self._commit_some()
        return mine.outcome()

    def close(self) -> None:
        """Commits what waits and takes no more; twice does nothing."""
        with self._committing:
            while self._waiting:
                self._commit_some()
            self._closed = True

    def _commit_some(self) -> None:
        """Commits the batches that have waited longest; the caller has the lock."""
        taken = [self._waiting.popleft()]
        num_rows = len(taken[0].batch)
        while self._waiting and num_rows + len(self._waiting[0].batch) <= self._max_rows:
            taken.append(self._waiting.popleft())
            num_rows += len(taken[-1].batch)
        try:
            if self._closed:
                raise StoreClosedError("this appender was closed; open another one")
            offsets = {source: offset for waiting in taken for source, offset in waiting.offsets.items()}
            results = self._commit([waiting.batch for waiting in taken], offsets)
            for waiting, result in zip(taken, results, strict=True):
                waiting.result = result
        except BaseException as exc:
            for waiting in taken:
                waiting.error = exc
            if not isinstance(exc, Exception):
                raise  # an interrupt is for the thread it came to, too


class _Waiting:
    """A batch, and later what became of it."""

    __slots__ = ("batch", "error", "offsets", "result")

    def __init__(self, batch: EventBatch, offsets: Mapping[str, bytes]) -> None:
        self.batch = batch
        self.offsets = offsets
        self.result: AppendResult | None = None
        self.error: BaseException | None = None

    def outcome(self) -> AppendResult:
        """Gives the result, or raises the error: one of its own for each caller, for tracebacks are not shared."""
        if isinstance(self.error, StoreError):
            raise type(self.error)(*self.error.args) from self.error
        if self.error is not None:
            raise StoreError(f"the commit failed: {self.error!r}") from self.error
        assert self.result is not None
        return self.result
