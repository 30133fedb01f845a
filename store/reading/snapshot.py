"""A moment of a store: one generation and the delta behind it, read as one."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Self

import numpy as np

from store.errors import CorruptRecordError, InputError, StoreClosedError, UnknownFieldError
from store.events import STREAMS_PER_DOMAIN
from store.keys import mix_one
from store.reading.merge import LiveRows, live_only, merge_columns
from store.reading.side_info import side_info_at
from store.reading.subtree import OpenUser
from store.reading.user_events import UserEvents, join_events
from store.records.codec import decode_extras, decode_user
from store.retrieval import BehaviorColumns
from store.types import NO_ID, UserColumns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path
    from types import TracebackType

    from store.base.files import BaseTransaction
    from store.base.meta import StoreMeta
    from store.base.tables import CoverTable, FieldTable
    from store.delta.rows import DeltaRows
    from store.delta.transaction import DeltaTransaction
    from store.lists import FieldColumn
    from store.reading.loaded import LiveWords, LoadedGeneration
    from store.reading.subtree import Subtree
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import F32, I64, U64, NameKind, Vocabulary


class Snapshot:
    """One pinned generation and the delta of the same moment, for one thread at a time; a context manager.

    What was appended before the snapshot was taken is seen, what is appended later is not; a deleted user has no
    behaviors but those appended after the deletion.
    """

    def __init__(self, generation: LoadedGeneration, delta: DeltaTransaction | None) -> None:
        """Use `BehaviorStore.snapshot`."""
        self._generation = generation
        self._base: BaseTransaction | None = generation.base.begin()
        self._delta = delta
        self._merged = generation.meta.delta_sequence
        self._has_live = delta is not None and delta.last_sequence > self._merged
        self._words: LiveWords | None = None
        self._opened: OpenUser | None = None
        """The user whose subtree was asked for last: a request asks for many of one user."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unpins the generation. Closing twice does nothing."""
        if self._base is not None:
            self._base.close()
            self._base = self._opened = None
        if self._delta is not None:
            self._delta.close()

    @property
    def generation(self) -> str:
        """Name of the generation."""
        return self._generation.name

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
        return self._live_words().vocabulary if self._has_live else self._generation.vocabulary

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
        """Side-info fields of users, also of those deleted since the generation was built: see `user_fields`."""
        return self._generation.users

    @property
    def base(self) -> BaseTransaction:
        """The base of the generation alone, for whoever reads all of it; what the delta adds or hides is not in it."""
        return self._open_base()

    @property
    def delta(self) -> DeltaTransaction | None:
        """The delta at this moment; None = there is none."""
        return self._delta

    def user_fields(self, user: int) -> dict[str, FieldColumn]:
        """Gives the side-info fields of one user, each (1,); missing where the user is unknown or deleted."""
        return self.users.lookup(np.array([NO_ID if self._is_hidden(user) else user], np.uint64))

    def columns(self, user: int, *, check: bool = False) -> UserColumns:
        """Gives everything a user did; empty for an unknown user.

        Without events in the delta the columns are views of the record, one LMDB read; otherwise new arrays.

        Args:
            user: User id.
            check: Also compare the record's checksum, reading all of it.

        Raises:
            CorruptRecordError: The record, or a row of the delta, is damaged; the message names the user.
            StoreClosedError: The snapshot was closed.
        """
        record = self._record(user)
        live = self._live_rows(user)
        if record is None:
            return UserColumns.empty() if live is None else live_only(self._resolved(live))
        try:
            columns = decode_user(record, check=check)
        except CorruptRecordError as exc:
            raise self._damaged(user, exc) from exc
        return columns if live is None else merge_columns(columns, self._resolved(live))

    def subtree(self, user: int, node: int) -> Subtree:
        """Gives a user's behaviors under one node of the taxonomy: one contiguous range of rows per stream.

        Cost: two binary searches a stream, whatever the length of the history. The first call for a user finds the
        record, and merges it with the user's events in the delta if there are any; the next ones do not.

        Args:
            user: User id.
            node: Node number, `Taxonomy.item_node` or `category_node` gives it; `Taxonomy.unmapped` = behaviors whose
                item and category are unknown.

        Raises:
            InputError: There is no such node.
            CorruptRecordError: As `columns`.
        """
        unmapped = self._generation.unmapped
        if not 0 <= node <= unmapped:
            raise InputError(f"node: {node} is outside 0 .. {unmapped}")
        end = self._generation.end_of_node[node] if node < unmapped else node + 1
        opened = self._opened
        if opened is None or opened.user != user:
            opened = self._opened = self._open_user(user)
        return opened.subtree(node, end)

    def history(
        self,
        user: int,
        *,
        as_of_ms: int | None = None,
        domains: Collection[str] | None = None,
        limit: int | None = None,
        skip: int = 0,
    ) -> BehaviorColumns:
        """Gives a user's behaviors in time order, oldest first; new arrays.

        Args:
            user: User id; an unknown one has an empty history.
            as_of_ms: Only behaviors strictly before this time; None = all.
            domains: Only behaviors of these domains; None = of all. A name the store does not know has none.
            limit: Only the newest that many; None = all.
            skip: Leave out this many of the newest: the page before.
        """
        columns = self.columns(user)
        if as_of_ms is not None:
            columns = columns.before(as_of_ms)
        order = columns.order
        if domains is not None:
            codes = [code for code, name in enumerate(self.vocabulary.domains) if name in domains]
            order = order[np.isin(columns.domain_and_action(order.astype(np.int64))[0], codes)]
        stop = max(len(order) - skip, 0)
        return self.behaviors(columns, order[0 if limit is None else max(stop - limit, 0) : stop].astype(np.int64))

    def behaviors(self, columns: UserColumns, rows: np.ndarray) -> BehaviorColumns:
        """Gives some rows of a user's columns, in the order asked for, as behaviors; new arrays."""
        domain, action = columns.domain_and_action(rows)
        return BehaviorColumns(
            item=columns.item[rows].astype(np.uint64),
            category=self.taxonomy.category_of(columns.node[rows]),
            timestamp_ms=columns.timestamp_ms[rows],
            domain=domain,
            action=action,
            scene=columns.scene[rows].astype(np.uint16),
        )

    def events(self, user: int, *, check: bool = False) -> UserEvents:
        """Gives a user's behaviors as they were written, with everything that is kept of them; new arrays.

        Args:
            user: User id; an unknown one has none.
            check: Also compare the record's checksum.

        Raises:
            CorruptRecordError: As `columns`.
        """
        record = self._record(user)
        live = self._live_rows(user)
        kinds = self.meta.behavior_fields
        base = None
        if record is not None:
            try:
                base = UserEvents.of_record(decode_user(record, check=check), decode_extras(record), kinds)
            except CorruptRecordError as exc:
                raise self._damaged(user, exc) from exc
        if live is None:
            return base if base is not None else UserEvents.empty(kinds)
        words = self._live_words()
        assert self._delta is not None
        fields = {name: code for code, (name, _) in enumerate(self._delta.words().fields)}
        return join_events(base, UserEvents.of_delta(live, words, fields, kinds))

    def behavior_fields(self, user: int, positions: I64, names: tuple[str, ...]) -> dict[str, U64 | F32]:
        """Gives side-info fields of some of a user's behaviors.

        Args:
            user: User id.
            positions: Which behaviors, by their positions in time order (`UserColumns.rank`); any order. (U,)
            names: Which fields.

        Returns:
            By name, as asked, (U,) each: ids, `NO_ID` = missing, or float32, NaN = missing.

        Raises:
            UnknownFieldError: The generation has no such field. One that only the delta has is none before the next.
            CorruptRecordError: As `columns`.
        """
        kinds = self.meta.behavior_fields
        known = [name for name, _ in kinds]
        for at, name in enumerate(names):
            if name not in known:
                raise UnknownFieldError(
                    f"behavior_fields[{at}]: {name[:64]!r} is no side-info field of behaviors; store {self.generation} "
                    f"has {', '.join(known) or 'none'}"
                )
        if not names:
            return {}
        record, live = self._record(user), self._live_rows(user)
        codes: dict[str, int] = {}
        if live is not None and self._delta is not None:
            codes = {name: code for code, (name, _) in enumerate(self._delta.words().fields)}
        try:
            base = None if record is None else (decode_user(record), decode_extras(record))
        except CorruptRecordError as exc:
            raise self._damaged(user, exc) from exc
        return side_info_at(positions, base, live, codes, kinds, names)

    def behavior_category(self, node: int) -> int:
        """Gives the id of the category a node is or hangs under; `NO_ID` = unmapped."""
        return int(self.taxonomy.category_of(np.array([node], np.uint32))[0])

    def name_of(self, kind: NameKind, key: int) -> str:
        """Gives the name of an id as it stood in the input; the decimal id where it had none, empty for `NO_ID`."""
        if key == NO_ID:
            return ""
        name = self._open_base().name(kind, key)
        if name is None and self._delta is not None:
            name = self._delta.name(kind, key)
        return str(key) if name is None else name

    def names(self, kind: NameKind) -> Iterator[tuple[int, str]]:
        """Gives every id of a kind that has a name, with its name, ascending by id."""
        last = -1
        sources = [((key, 0, name) for key, name in self._open_base().names(kind))]
        if self._delta is not None:
            sources.append((key, 1, name) for key, name in self._delta.names(kind))
        for key, _, name in heapq.merge(*sources):
            if key != last:
                yield key, name
            last = key

    def user_ids(self) -> Iterator[int]:
        """Gives the id of every user with at least one behavior, in the order of the keys."""
        base = self._open_base().user_ids()
        return base if self._delta is None or not self._has_live else self._joined_users(base, self._delta)

    def _joined_users(self, base: Iterator[int], delta: DeltaTransaction) -> Iterator[int]:
        buried = {user for user, grave in delta.deleted() if grave.sequence > self._merged}
        shown = (user for user in base if user not in buried)
        live = delta.user_ids(self._merged)
        last = None
        for user in heapq.merge(shown, live, key=mix_one):
            if user != last:
                yield user
            last = user

    def _open_user(self, user: int) -> OpenUser:
        record = self._record(user)
        if record is None or self._live_rows(user) is not None:
            return OpenUser.of_columns(user, self.columns(user))
        try:
            return OpenUser.of_record(user, record)
        except CorruptRecordError as exc:
            raise self._damaged(user, exc) from exc

    def _record(self, user: int) -> memoryview | None:
        """Gives a user's record, None when there is none or the user was deleted since."""
        record = self._open_base().record(user)
        return None if record is None or self._is_hidden(user) else record

    def _is_hidden(self, user: int) -> bool:
        if not self._has_live or self._delta is None:
            return False
        grave = self._delta.tombstone(user)
        return grave is not None and grave.sequence > self._merged

    def _live_rows(self, user: int) -> DeltaRows | None:
        """Gives a user's events in the delta that the generation lacks; None = there are none."""
        if not self._has_live or self._delta is None:
            return None
        rows = self._delta.rows(user, after=self._merged)
        return rows if len(rows) else None

    def _resolved(self, rows: DeltaRows) -> LiveRows:
        words = self._live_words()
        stream = words.recode.stream[rows.domain.astype(np.uint16) * np.uint16(STREAMS_PER_DOMAIN) + rows.action]
        return LiveRows(
            stream=stream,
            node=words.resolver.nodes(rows.item, rows.category, stream),
            timestamp_ms=rows.timestamp_ms,
            item=rows.item,
            scene=words.recode.scene[rows.scene],
        )

    def _live_words(self) -> LiveWords:
        if self._words is None:
            assert self._delta is not None
            self._words = self._generation.live_words(self._delta.words())
        return self._words

    def _open_base(self) -> BaseTransaction:
        if self._base is None:
            raise StoreClosedError(f"a snapshot of generation {self._generation.name} was closed; take another one")
        return self._base

    def _damaged(self, user: int, exc: CorruptRecordError) -> CorruptRecordError:
        return CorruptRecordError(f"{self._generation.data_file}: user {user}: {exc}")
