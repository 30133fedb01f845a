"""What the delta adds to one generation, and hides of it, at one moment."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from store.reading.merge import LiveRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from store.delta.rows import DeltaRows
    from store.delta.transaction import DeltaTransaction
    from store.events import EventRows
    from store.reading.loaded import LiveWords, LoadedGeneration


class LiveDelta:
    """The events and deletions that a generation has not merged; for one thread at a time."""

    def __init__(self, generation: LoadedGeneration, delta: DeltaTransaction, up_to: int | None) -> None:
        """Reads nothing yet.

        Args:
            generation: The base; events up to its `delta_sequence` are in it already.
            delta: The delta at this moment.
            up_to: Sequence number of the last event to be seen; None = all. Deletions are always seen.
        """
        self._generation = generation
        self._delta = delta
        self._after = generation.meta.delta_sequence
        self._up_to = up_to

    @staticmethod
    def of(generation: LoadedGeneration, delta: DeltaTransaction | None, up_to: int | None = None) -> LiveDelta | None:
        """Gives None where the generation has merged all there is."""
        if delta is None or delta.last_sequence <= generation.meta.delta_sequence:
            return None
        return LiveDelta(generation, delta, up_to)

    @cached_property
    def words(self) -> LiveWords:
        """The words of the generation and the delta together."""
        return self._generation.live_words(self._delta.words())

    def rows(self, user: int) -> DeltaRows | None:
        """Gives a user's live events; None = there are none.

        Raises:
            CorruptRecordError: A row is damaged; the message names the user.
        """
        rows = self._delta.rows(user, after=self._after)
        if self._up_to is not None:
            rows = rows.take(np.flatnonzero(rows.sequence <= np.uint64(self._up_to)))
        return rows if len(rows) else None

    def has_deleted(self, user: int) -> bool:
        """Says whether the user was deleted since the generation was built: it then shows no base row."""
        tombstone = self._delta.tombstone(user)
        return tombstone is not None and tombstone.sequence > self._after

    def deleted_users(self) -> set[int]:
        """Gives every user deleted since the generation was built."""
        return {user for user, tombstone in self._delta.deleted() if tombstone.sequence > self._after}

    def user_ids(self) -> Iterator[int]:
        """Gives every user with live events, in the order of the keys."""
        users = self._delta.user_ids(self._after)
        return users if self._up_to is None else (user for user in users if self.rows(user) is not None)

    def events(self, user: int, rows: DeltaRows) -> EventRows:
        """Gives a user's live events in the codes of `words`, with the side-info fields of the generation."""
        users = np.full(len(rows), user, np.uint64)
        kinds = self._generation.meta.behavior_fields
        return self.words.recode.apply(rows.to_events(users, self.words.field_codes, kinds))

    def resolve(self, rows: DeltaRows) -> LiveRows:
        """Gives live events in the codes of `words` and the node numbers of the generation."""
        words = self.words
        stream = words.recode.stream[rows.stream]
        return LiveRows(
            stream=stream,
            node=words.resolver.nodes(rows.item, rows.category, stream),
            timestamp_ms=rows.timestamp_ms,
            item=rows.item,
            scene=words.recode.scene[rows.scene],
        )
