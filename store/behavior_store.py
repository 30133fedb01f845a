"""Reads a store: opens the current generation, pins it for a request, follows a new one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import numpy as np

from store.base import DATA_FILE, BaseReader
from store.codec import decode_user
from store.errors import CorruptGenerationError, CorruptRecordError, StoreClosedError
from store.generation import OpenedGeneration, current_name, open_generation
from store.meta import StoreMeta, read_meta
from store.retrieval import BehaviorColumns
from store.tables import CoverTable, FieldTable
from store.taxonomy import Taxonomy
from store.types import NO_ID, UserColumns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from store.base import BaseTransaction, NameKind
    from store.types import Vocabulary


class BehaviorStore:
    """A store root, read. Thread-safe: every thread takes its own snapshots.

    Example::

        with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
            columns = snapshot.columns(user)

    A snapshot keeps the generation it pinned, whatever is published or reloaded meanwhile. A generation's memory is
    given back when it is no longer current and the last snapshot and array over it are gone.
    """

    def __init__(self, root: Path, generation: _LoadedGeneration) -> None:
        """Use `open`."""
        self._root = root
        self._current: _LoadedGeneration | None = generation
        self._reload_lock = threading.Lock()

    @classmethod
    def open(cls, root: Path, generation: str | None = None) -> BehaviorStore:
        """Opens a store after checking its files: reads each of them once.

        Args:
            root: Folder that `lookback-store ingest --store` wrote.
            generation: Name of the generation; None = the current one.

        Raises:
            MissingGenerationError: Nothing is published there, or a file is gone.
            CorruptGenerationError: A file does not match its manifest. Both messages name the file and what to run.
        """
        return cls(root, _LoadedGeneration(open_generation(root, "store", generation)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives up the current generation; snapshots already taken go on. Closing twice does nothing."""
        self._current = None

    @property
    def root(self) -> Path:
        """The folder that was opened."""
        return self._root

    @property
    def generation(self) -> str:
        """Name of the generation that the next snapshot will pin."""
        return self._loaded().name

    def snapshot(self) -> Snapshot:
        """Pins the current generation: a few microseconds.

        Raises:
            StoreClosedError: The store was closed.
        """
        return Snapshot(self._loaded())

    def reload(self) -> bool:
        """Follows `CURRENT`: opens the generation it names, if it is another one, and serves it from now on.

        Blocks only other reloads; snapshots go on being taken from the old generation until the new one is open.

        Returns:
            Whether the generation changed.

        Raises:
            GenerationError: The new generation cannot be opened; the old one goes on being served.
        """
        with self._reload_lock:
            name = current_name(self._root, "store")
            if name == self._loaded().name:
                return False
            self._current = _LoadedGeneration(open_generation(self._root, "store", name))
            return True

    def history(
        self, user: int, *, as_of_ms: int | None = None, limit: int | None = None, skip: int = 0
    ) -> BehaviorColumns:
        """Gives a user's behaviors in time order; see `Snapshot.history`."""
        with self.snapshot() as snapshot:
            return snapshot.history(user, as_of_ms=as_of_ms, limit=limit, skip=skip)

    def _loaded(self) -> _LoadedGeneration:
        loaded = self._current
        if loaded is None:
            raise StoreClosedError(f"{self._root}: this store was closed; open it again")
        return loaded


class Snapshot:
    """One pinned generation, for one thread at a time; a context manager."""

    def __init__(self, generation: _LoadedGeneration) -> None:
        """Use `BehaviorStore.snapshot`."""
        self._generation = generation
        self._transaction: BaseTransaction | None = generation.base.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unpins the generation. Closing twice does nothing."""
        if self._transaction is not None:
            self._transaction.close()
            self._transaction = None

    @property
    def generation(self) -> str:
        """Name of the generation."""
        return self._generation.name

    @property
    def meta(self) -> StoreMeta:
        """Counts and names of the generation."""
        return self._generation.meta

    @property
    def taxonomy(self) -> Taxonomy:
        """The numbered category tree and items."""
        return self._generation.taxonomy

    @property
    def vocabulary(self) -> Vocabulary:
        """Names behind the codes of domains, actions and scenes."""
        return self._generation.vocabulary

    @property
    def streams(self) -> tuple[tuple[str, str], ...]:
        """(domain, action) names of every stream of the generation, in the order of their codes."""
        return self._generation.streams

    @property
    def items(self) -> FieldTable:
        """Side-info fields of items."""
        return self._generation.items

    @property
    def covers(self) -> CoverTable:
        """Products that ads cover."""
        return self._generation.covers

    @property
    def users(self) -> FieldTable:
        """Side-info fields of users."""
        return self._generation.users

    def columns(self, user: int, *, check: bool = False) -> UserColumns:
        """Gives everything a user did, zero-copy; empty for an unknown user. One LMDB read.

        Args:
            user: User id.
            check: Also compare the record's checksum, reading all of it.

        Raises:
            CorruptRecordError: The record is damaged; the message names the user.
            StoreClosedError: The snapshot was closed.
        """
        record = self._open_transaction().record(user)
        if record is None:
            return UserColumns.empty()
        try:
            return decode_user(record, check=check)
        except CorruptRecordError as exc:
            raise CorruptRecordError(f"{self._generation.data_file}: user {user}: {exc}") from exc

    def history(
        self, user: int, *, as_of_ms: int | None = None, limit: int | None = None, skip: int = 0
    ) -> BehaviorColumns:
        """Gives a user's behaviors in time order, oldest first; new arrays.

        Args:
            user: User id; an unknown one has an empty history.
            as_of_ms: Only behaviors strictly before this time; None = all.
            limit: Only the newest that many; None = all.
            skip: Leave out this many of the newest: the page before.
        """
        columns = self.columns(user)
        if as_of_ms is not None:
            columns = columns.before(as_of_ms)
        stop = max(columns.num_behaviors - skip, 0)
        rows = columns.order[0 if limit is None else max(stop - limit, 0) : stop]
        domain, action = columns.domain_and_action(rows)
        return BehaviorColumns(
            item=columns.item[rows],
            category=self.taxonomy.category_of(columns.node[rows]),
            timestamp_ms=columns.timestamp_ms[rows],
            domain=domain,
            action=action,
            scene=columns.scene[rows],
        )

    def behavior_category(self, node: int) -> int:
        """Gives the id of the category a node is or hangs under; `NO_ID` = unmapped."""
        return int(self.taxonomy.category_of(np.array([node], np.uint32))[0])

    def name_of(self, kind: NameKind, key: int) -> str:
        """Gives the name of an id as it stood in the input; the decimal id where it had none, empty for `NO_ID`."""
        if key == NO_ID:
            return ""
        name = self._open_transaction().name(kind, key)
        return str(key) if name is None else name

    def user_ids(self) -> Iterator[int]:
        """Gives the id of every user with at least one behavior, ascending."""
        return self._open_transaction().user_ids()

    def _open_transaction(self) -> BaseTransaction:
        if self._transaction is None:
            raise StoreClosedError(f"a snapshot of generation {self._generation.name} was closed; take another one")
        return self._transaction


class _LoadedGeneration:
    """A generation with its files mapped. Immutable; shared by the store and its snapshots."""

    def __init__(self, opened: OpenedGeneration) -> None:
        self.name = opened.name
        self.meta = read_meta(opened)
        self.vocabulary = self.meta.vocabulary
        self.streams = tuple(
            (self.vocabulary.domains[domain], self.vocabulary.actions[action]) for domain, action in self.meta.streams
        )
        self.taxonomy = Taxonomy.load(opened.path / "taxonomy", self.meta.tree_domains)
        self.items = FieldTable.load(opened.path / "items", self.meta.item_fields)
        self.users = FieldTable.load(opened.path / "users", self.meta.user_fields)
        self.covers = CoverTable.load(opened.path / "covers")
        self.data_file = opened.path / "base" / DATA_FILE
        if f"base/{DATA_FILE}" not in opened.manifest.files:
            # Unlisted means unchecked, and LMDB dies of a truncated file.
            raise CorruptGenerationError(
                f"{self.data_file}: not listed in the manifest; run `lookback-store ingest` again"
            )
        self.base = BaseReader(opened.path / "base")
