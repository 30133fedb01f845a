"""A store as of one moment: one generation and the delta behind it, read as one."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from store.closing import Closing
from store.errors import StoreClosedError
from store.keys import mix_one
from store.reading.live_delta import LiveDelta
from store.reading.user_view import UserView
from store.types import NO_ID, check_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from store.base.files import BaseTransaction
    from store.base.meta import StoreMeta
    from store.base.tables import CoverTable, FieldTable
    from store.delta.transaction import DeltaTransaction
    from store.reading.loaded import LoadedGeneration
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import NameKind, Vocabulary


class Snapshot(Closing):
    """One pinned generation and the delta of the same moment, for one thread at a time; a context manager.

    What was appended before the snapshot was taken is seen, what is appended later is not; a deleted user has no
    behaviors but those appended after the deletion.
    """

    def __init__(self, generation: LoadedGeneration, delta: DeltaTransaction | None, up_to: int | None = None) -> None:
        """Use `BehaviorStore.snapshot`."""
        self._generation = generation
        self._base: BaseTransaction | None = generation.base.begin()
        self._up_to = up_to
        self.delta = delta
        """The delta at this moment, all of it; None = there is none."""
        self.live = LiveDelta.of(generation, delta, up_to)
        """What the delta adds to the generation and hides of it; None = nothing."""

    def close(self) -> None:
        """Unpins the generation. Closing twice does nothing."""
        if self._base is not None:
            self._base.close()
            self._base = None
        if self.delta is not None:
            self.delta.close()

    @property
    def generation(self) -> str:
        """Name of the generation."""
        return self._generation.name

    @property
    def delta_sequence(self) -> int:
        """Number of the last live event or deletion that is seen, merged ones too; 0 = there never was one."""
        if self._up_to is not None:
            return self._up_to
        merged = self._generation.meta.delta_sequence
        return merged if self.delta is None else max(merged, self.delta.last_sequence)

    @property
    def path(self) -> Path:
        """Folder of the generation."""
        return self._generation.path

    @property
    def meta(self) -> StoreMeta:
        """Counts and names of the generation; the delta is not in them."""
        return self._generation.meta

    @property
    def taxonomy(self) -> Taxonomy:
        """The numbered category tree and items."""
        return self._generation.taxonomy

    @property
    def vocabulary(self) -> Vocabulary:
        """Names behind the codes of domains, actions and scenes; those that only the delta uses stand last."""
        return self._generation.vocabulary if self.live is None else self.live.words.vocabulary

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
        """Side-info fields of users, also of those deleted since the generation was built: see `UserView.fields`."""
        return self._generation.users

    @property
    def base(self) -> BaseTransaction:
        """The base of the generation alone, for those who read all of it; what the delta adds or hides is not in it."""
        if self._base is None:
            raise StoreClosedError(f"a snapshot of generation {self._generation.name} was closed; take another one")
        return self._base

    def user(self, user: int, *, check: bool = False) -> UserView:
        """Looks a user up: one read of the base, and of the delta if it has events that the generation lacks.

        Args:
            user: User id; an unknown one has no behaviors.
            check: Also compare the record's checksum when it is decoded, reading all of it.

        Raises:
            InputError: It is no id.
            CorruptRecordError: A row of the delta is damaged; the message names the user.
            StoreClosedError: The snapshot was closed.
        """
        if type(user) is not int:
            user = check_id(user, "user")
        return UserView(user, self.base.record(user), self._generation, self.live, check=check)

    def name_of(self, kind: NameKind, key: int) -> str:
        """Gives the name of an id as it stood in the input; the decimal id where it had none, empty for `NO_ID`."""
        if key == NO_ID:
            return ""
        name = self.base.name(kind, key)
        if name is None and self.delta is not None:
            name = self.delta.name(kind, key)
        return str(key) if name is None else name

    def names(self, kind: NameKind) -> Iterator[tuple[int, str]]:
        """Gives every id of a kind that has a name, with its name, ascending by id."""
        last = -1
        sources = [((key, 0, name) for key, name in self.base.names(kind))]
        if self.delta is not None:
            sources.append((key, 1, name) for key, name in self.delta.names(kind))
        for key, _, name in heapq.merge(*sources):
            if key != last:
                yield key, name
            last = key

    def user_ids(self) -> Iterator[int]:
        """Gives the id of every user with at least one behavior, in the order of the keys."""
        base = self.base.user_ids()
        return base if self.live is None else _merge_users(base, self.live)


def _merge_users(base: Iterator[int], live: LiveDelta) -> Iterator[int]:
    deleted = live.deleted_users()
    last = None
    for user in heapq.merge((user for user in base if user not in deleted), live.user_ids(), key=mix_one):
        if user != last:
            yield user
        last = user
