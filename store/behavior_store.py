"""A store: opens the current generation and the delta, pins both for a request, follows a new generation."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from store.closing import Closing
from store.delta.delta import Delta
from store.errors import InputError, MissingGenerationError, StoreClosedError
from store.publishing.generation import current_name, open_generation
from store.reading.base_view import GenerationView
from store.reading.loaded import LoadedGeneration
from store.reading.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from store.delta.transaction import DeltaTransaction
    from store.retrieval import BehaviorColumns


class BehaviorStore(Closing):
    """A store root, read: the current generation and the delta behind it. Thread-safe: every thread takes snapshots.

    Example::

        with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
            columns = snapshot.user(user).columns

    A snapshot keeps the generation it pinned, whatever is published or reloaded meanwhile. A generation's memory is
    given back when it is no longer current and the last snapshot and array over it are gone.
    """

    def __init__(self, root: Path, generation: LoadedGeneration, delta: Delta | None) -> None:
        """Use `open`."""
        self.root = root
        """The folder that was opened."""
        self._current: LoadedGeneration | None = generation
        self._delta = delta
        self._reload_lock = threading.Lock()

    @classmethod
    def open(cls, root: Path, generation: str | None = None) -> BehaviorStore:
        """Opens a store after checking its files: reads each of them once.

        Args:
            root: Folder that `lookback-store ingest --store` wrote.
            generation: Name of the generation; None = the current one.

        Raises:
            MissingGenerationError: Nothing is published there, or a file is gone.
            CorruptGenerationError: A file does not match its manifest, or the delta is damaged. Both messages name the
                file and what to run.
        """
        return cls(root, LoadedGeneration(open_generation(root, "store", generation)), Delta.open(root))

    def close(self) -> None:
        """Gives up the current generation; snapshots already taken go on. Closing twice does nothing."""
        self._current = None

    @property
    def generation(self) -> str:
        """Name of the generation that the next snapshot will pin."""
        return self._loaded().name

    def snapshot(self, up_to: int | None = None) -> Snapshot:
        """Pins the current generation and the delta as it is: a few microseconds.

        Where the delta has been trimmed of events that the generation lacks, a newer one is current: that is opened.

        Args:
            up_to: See only live events up to this sequence number, as `Snapshot.delta_sequence` gave it: the store as
                it was then, but for users deleted since, who have no behaviors. None = all events.

        Raises:
            InputError: The generation has merged later events than `up_to`, or there are not that many.
            MissingGenerationError: There is no newer one: this one was asked for by name.
            GenerationError: The newer one cannot be opened.
            StoreClosedError: The store was closed.
        """
        while True:
            loaded = self._loaded()
            delta = None if self._delta is None else self._delta.begin()
            if delta is None or delta.trimmed <= loaded.meta.delta_sequence:
                snapshot = Snapshot(loaded, delta, up_to)
                problem = None if up_to is None else _find_sequence_problem(up_to, loaded, delta)
                if problem is not None:
                    snapshot.close()
                    raise InputError(f"delta_sequence: {up_to} {problem}")
                return snapshot
            delta.close()
            if not self.reload() and loaded is self._current:
                raise MissingGenerationError(
                    f"{self.root}: live events that generation {loaded.name} lacks have been trimmed; "
                    "open the current one"
                )

    @contextmanager
    def base_view(self) -> Iterator[GenerationView]:
        """Gives the generation in use as an append asks it, for the length of the block.

        Raises:
            StoreClosedError: The store was closed.
        """
        loaded = self._loaded()
        with loaded.base.begin() as base:
            yield GenerationView(loaded, base)

    def reload(self) -> bool:
        """Follows `CURRENT`: opens the generation it names, if it is another one, and serves it from now on.

        Blocks only other reloads; snapshots go on being taken from the old generation until the new one is open.

        Returns:
            Whether the generation changed.

        Raises:
            GenerationError: The new generation cannot be opened; the old one goes on being served.
        """
        with self._reload_lock:
            upcoming = self.upcoming()
            if upcoming is None:
                return False
            self.switch(upcoming)
            return True

    def upcoming(self) -> LoadedGeneration | None:
        """Opens the generation that `CURRENT` names, for `preview` and `switch`; serves the same one as before.

        Returns:
            None if that is the one that is served.

        Raises:
            GenerationError: It cannot be opened.
        """
        name = current_name(self.root, "store")
        if name == self._loaded().name:
            return None
        return LoadedGeneration(open_generation(self.root, "store", name))

    def preview(self, upcoming: LoadedGeneration) -> Snapshot:
        """Pins a generation that is not served yet, and the delta as it is."""
        delta = self._opened_delta()
        return Snapshot(upcoming, None if delta is None else delta.begin())

    def switch(self, upcoming: LoadedGeneration) -> None:
        """Serves an opened generation from now on; every snapshot taken keeps its own."""
        self._opened_delta()
        self._current = upcoming

    def _opened_delta(self) -> Delta | None:
        if self._delta is None:
            self._delta = Delta.open(self.root)
        return self._delta

    def history(
        self,
        user: int,
        *,
        as_of_ms: int | None = None,
        domains: Collection[str] | None = None,
        limit: int | None = None,
        skip: int = 0,
    ) -> BehaviorColumns:
        """Gives a user's behaviors in time order; see `UserView.history`."""
        with self.snapshot() as snapshot:
            return snapshot.user(user).history(as_of_ms=as_of_ms, domains=domains, limit=limit, skip=skip)

    def _loaded(self) -> LoadedGeneration:
        loaded = self._current
        if loaded is None:
            raise StoreClosedError(f"{self.root}: this store was closed; open it again")
        return loaded


def _find_sequence_problem(up_to: int, generation: LoadedGeneration, delta: DeltaTransaction | None) -> str | None:
    """Gives why a generation cannot be read as of a sequence number of the delta; None = it can."""
    merged = generation.meta.delta_sequence
    if up_to < merged:
        return (
            f"cannot be told apart from later ones in generation {generation.name}, which has merged all up to "
            f"{merged}; open the generation that was served then"
        )
    last = merged if delta is None else max(merged, delta.last_sequence)
    return f"was never given; the last number is {last}" if up_to > last else None
