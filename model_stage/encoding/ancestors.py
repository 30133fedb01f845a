"""Categories that a bundle's tree lacks, of a store whose taxonomy has grown: their nearest known ancestor stands in.

Search answers ids and not what is above them, for nearly always the bundle knows them all. Where it does not, the
search stage is asked for their ancestors, once: the answer is cached while answers come from the same store generation.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_stage.errors import SearchUnavailableError
from store.lists import Lists
from store.retrieval import MAX_CATEGORIES_ASKED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from model_stage.encoding.batch import EncodedRequest
    from model_stage.encoding.encoder import RequestEncoder
    from model_stage.types import RankRequest, Retriever
    from serving.deadline import Deadline
    from store.fields import IdLists, ValueColumn
    from store.retrieval import BehaviorColumns, SearchResult
    from store.types import I32, U64, Vocabulary

MAX_KEPT = 65_536
"""Categories to keep ancestors of, some MiB; beyond that the cache is emptied."""

PAUSE_S = 1.0
"""No call is made for this long after a failure: a search stage that hangs here would use up every request's time."""
PATIENCE_S = 0.1
"""A call that fails with less time than this says nothing about the search stage, and starts no pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    store_generation: str
    encoder: RequestEncoder
    num_learned: int


class AncestorEncoder:
    """Encodes with encoders that know every category of an answer of search, or an ancestor of it. Thread-safe.

    Args:
        encoder: The bundle's.
        retriever: What answered the searches.
        clock_s: Seconds that only grow.
    """

    def __init__(
        self, encoder: RequestEncoder, retriever: Retriever, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._encoder, self._retriever, self._clock_s = encoder, retriever, clock_s
        self._lock = threading.Lock()
        self._retry_at_s, self._failure = 0.0, ""
        self._kept = self._nothing_of("")

    def known(self, store_generation: str) -> RequestEncoder:
        """Gives the encoder with what is known of a store generation by now; makes no call."""
        return self._kept_of(store_generation).encoder

    def encode(
        self, request: RankRequest, found: SearchResult, deadline: Deadline | None = None, request_id: str = ""
    ) -> tuple[EncodedRequest, RequestEncoder]:
        """Encodes a request with what was retrieved for it; gives the encoder that did so, too.

        Asks for the ancestors of categories that are seen for the first time. A category without an ancestor that the
        bundle knows is none: its vector is zero.

        Raises:
            SearchUnavailableError: They could not be had within the deadline, or only those of another generation; or a
                call failed within the last `PAUSE_S`.
        """
        encoder = self.known(found.store_generation)
        encoded = encoder.encode(request, found)
        lacking = encoder.unknown_categories(encoded, found)
        if not len(lacking) or not found.store_generation:  # degraded: no store answered
            return encoded, encoder
        encoder = self._learned(encoder, lacking, found.store_generation, deadline, request_id)
        return encoder.encode(request, found), encoder

    @property
    def side_info(self) -> tuple[str, ...]:
        """Side-info fields of behaviors that the schema names."""
        return self._encoder.side_info

    def behavior_rows(
        self, behaviors: BehaviorColumns, names: Vocabulary, fields: Mapping[str, ValueColumn], store_generation: str
    ) -> tuple[I32, I32]:
        """Gives what `RequestEncoder.behavior_rows` gives, with ancestors as `encode` has them; so are the errors.

        Args:
            behaviors: The behaviors.
            names: As there.
            fields: As there.
            store_generation: Where they come from.
        """
        encoder = self.known(store_generation)
        rows = encoder.behavior_rows(behaviors, names, fields)
        lacking = encoder.unknown_among(behaviors.category[rows[0] == 0])
        if not len(lacking):
            return rows
        encoder = self._learned(encoder, lacking, store_generation, None, "")
        return encoder.behavior_rows(behaviors, names, fields)

    def _learned(
        self, encoder: RequestEncoder, lacking: U64, store_generation: str, deadline: Deadline | None, request_id: str
    ) -> RequestEncoder:
        """Gives an encoder that takes some more categories for their ancestors, and keeps these."""
        above = self._ask(store_generation, lacking, deadline, request_id)
        self._keep(store_generation, lacking, above)
        return encoder.with_categories(lacking, above)

    def _ask(self, store_generation: str, lacking: U64, deadline: Deadline | None, request_id: str) -> IdLists:
        if self._clock_s() < self._retry_at_s:
            raise SearchUnavailableError(f"{self._failure}; it is asked again after {PAUSE_S:g} s")
        parts = []
        for start in range(0, len(lacking), MAX_CATEGORIES_ASKED):
            ids = lacking[start : start + MAX_CATEGORIES_ASKED]
            had_time = deadline is None or deadline.remaining_s() >= PATIENCE_S
            try:
                answer = self._retriever.ancestors(ids, deadline, request_id)
            except SearchUnavailableError as error:
                if had_time:
                    self._failure, self._retry_at_s = str(error), self._clock_s() + PAUSE_S
                raise
            if answer.store_generation != store_generation:
                raise SearchUnavailableError(
                    f"store {store_generation} answered the search, store {answer.store_generation} says what is "
                    "above its categories"
                )
            parts.append(answer.above)
        return Lists.join(parts)

    def _keep(self, store_generation: str, ids: U64, above: IdLists) -> None:
        with self._lock:
            kept = self._kept_of(store_generation)
            num_learned = kept.num_learned + len(ids)
            if num_learned > MAX_KEPT:
                self._kept = self._nothing_of(store_generation)
            else:
                encoder = kept.encoder.with_categories(ids, above)
                self._kept = _Kept(store_generation=store_generation, encoder=encoder, num_learned=num_learned)

    def _kept_of(self, store_generation: str) -> _Kept:
        kept = self._kept
        return kept if kept.store_generation == store_generation else self._nothing_of(store_generation)

    def _nothing_of(self, store_generation: str) -> _Kept:
        return _Kept(store_generation=store_generation, encoder=self._encoder, num_learned=0)
