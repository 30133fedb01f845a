"""The searcher: every request is answered by one store generation and one index generation, from start to end."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.retrieve import Serving, retrieve
from search_stage.validate import check_categories, check_request
from search_stage.warm_up import warm_up
from store.behavior_store import BehaviorStore
from store.errors import DeadlineExceededError
from store.publishing.generation import current_name
from store.retrieval import Ancestors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serving.deadline import Deadline
    from store.reading.snapshot import Snapshot
    from store.retrieval import SearchRequest, SearchResult
    from store.types import U64

_log = logging.getLogger(__name__)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Searcher:
    """Retrieves, for each candidate, the behaviors of a user that matter. Thread-safe.

    Example::

        with BehaviorStore.open(store_root) as store:
            searcher = Searcher(store, IndexGeneration.open(index_root))
            result = searcher.search(request)

    The arrays of a result are copies: they outlive the store. Equal requests to equal generations get equal results,
    bit by bit, and a candidate's list does not depend on the other candidates.
    """

    def __init__(
        self,
        store: BehaviorStore,
        index: IndexGeneration | None = None,
        config: SearchConfig | None = None,
        *,
        recorded: Sequence[SearchRequest] = (),
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        """Pairs a store with an index.

        Args:
            store: The store; the caller closes it, and has it follow `CURRENT` through `reload` of this object.
            index: The index; None = no soft search, every score is 0.
            config: Limits and policies; None = the packaged `search.yaml`.
            recorded: Real requests, which each pair of generations answers before it serves.
            now_ms: The clock that as-of times are compared with, milliseconds UTC.

        Raises:
            IndexMismatchError: The index was built for another taxonomy than the store's.
            FaissMissingError: There is an index and no faiss.
        """
        self._store = store
        self._config = config if config is not None else SearchConfig.load()
        self._recorded = recorded
        self._now_ms = now_ms
        self._reload_lock = threading.Lock()
        self._index = index
        with store.snapshot() as snapshot:
            self._serving = {snapshot.generation: self._prepared(snapshot, index)}
            unknown = set(self._config.hard.domains) - set(snapshot.vocabulary.domains)
        if unknown:
            _log.warning("hard.domains: the store has no domain %s, its policy is not used", ", ".join(sorted(unknown)))

    @property
    def config(self) -> SearchConfig:
        """The limits and policies in force."""
        return self._config

    @property
    def store_generation(self) -> str:
        """Name of the store generation in use."""
        return self._store.generation

    @property
    def index_generation(self) -> str:
        """Name of the index generation in use; empty = none."""
        return self._index.name if self._index is not None else ""

    def search(self, request: SearchRequest, deadline: Deadline | None = None, request_id: str = "") -> SearchResult:
        """Answers one request. Changes nothing.

        Unknown users, items and categories are normal answers: an empty history, or soft and recent matches only.

        Args:
            request: What to retrieve, and for whom.
            deadline: Looked at between the steps; None = take the time it takes.
            request_id: Named by the error of a request that ran out of time.

        Raises:
            InputError: The request breaks the contract; the message starts with the field.
            DeadlineExceededError: The time is spent; the rest of the work was not done.
            store.errors.CorruptRecordError: The user's record is damaged.
        """

        def check_time() -> None:
            if deadline is not None and deadline.expired:
                raise DeadlineExceededError(f"request {request_id or '(without id)'}: its time is spent")

        check_request(request, self._config.limits, self._now_ms())
        check_time()
        snapshot, serving = self._pin(request.delta_sequence)
        with snapshot:
            return retrieve(snapshot, serving, self._config, request, check_time)

    def ancestors(self, categories: U64, deadline: Deadline | None = None, request_id: str = "") -> Ancestors:
        """Gives what stands above some categories. Changes nothing; looks at no deadline, for it takes microseconds.

        Args:
            categories: Ids of categories; unknown ones are normal. (N,)
            deadline: As the gRPC client has it.
            request_id: As the gRPC client has it.

        Raises:
            InputError: There are no or too many categories.
        """
        check_categories(len(categories))
        with self._store.snapshot() as snapshot:
            above = snapshot.taxonomy.categories_above(categories)
            return Ancestors(above=above, store_generation=snapshot.generation)

    def reload(self) -> bool:
        """Follows `CURRENT` of the store and of the index; requests in flight end on what they began with.

        Both are opened, checked and tried before either is served: their files are read in full, once. Blocks only
        other reloads.

        Returns:
            Whether anything changed.

        Raises:
            IndexMismatchError: The new pair does not fit. As on every error, what was served goes on being served.
            CorruptIndexError: The new index is no attention table.
            store.errors.GenerationError: A new generation cannot be opened.
        """
        with self._reload_lock:
            index = self._newest_index()
            upcoming = self._store.upcoming()
            if upcoming is None and index is self._index and self._store.generation in self._serving:
                return False
            with self._store.snapshot() if upcoming is None else self._store.preview(upcoming) as snapshot:
                name, serving = snapshot.generation, self._prepared(snapshot, index)
            # Both are there while the store switches: whichever generation a request pins, it finds its pair.
            self._serving = {**self._serving, name: serving}
            self._index = index
            if upcoming is not None:
                self._store.switch(upcoming)
            self._serving = {name: serving}
            return True

    def published(self) -> dict[str, str]:
        """Gives the names of the `store` and `index` generation that `CURRENT` points at; those in use may be others.

        Raises:
            store.errors.GenerationError: Nothing is published, or `CURRENT` cannot be read.
        """
        index = "" if self._index is None else current_name(self._index.root, "index")
        return {"store": current_name(self._store.root, "store"), "index": index}

    def served(self) -> dict[str, str]:
        """Gives the names of the `store` and `index` generation in use; empty = none."""
        return {"store": self.store_generation, "index": self.index_generation}

    def _prepared(self, snapshot: Snapshot, index: IndexGeneration | None) -> Serving:
        serving = Serving.of(snapshot, index, self._config)
        warm_up(snapshot, serving, self._config, self._recorded)
        return serving

    def _newest_index(self) -> IndexGeneration | None:
        if self._index is None or current_name(self._index.root, "index") == self._index.name:
            return self._index
        return IndexGeneration.open(self._index.root)

    def _pin(self, up_to: int | None) -> tuple[Snapshot, Serving]:
        while True:
            snapshot = self._store.snapshot(up_to)
            serving = self._serving.get(snapshot.generation)
            if serving is not None:
                return snapshot, serving
            snapshot.close()
            self._adopt()

    def _adopt(self) -> None:
        """Prepares the store's generation where `reload` has not: it was reloaded past us, or twice in a moment."""
        with self._reload_lock, self._store.snapshot() as snapshot:
            if snapshot.generation not in self._serving:
                self._serving = {snapshot.generation: Serving.of(snapshot, self._index, self._config)}
