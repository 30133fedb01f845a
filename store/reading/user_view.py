"""One user of a snapshot: found once, decoded when first needed, then cut and read as often as a request likes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from store.errors import CorruptRecordError, FieldError
from store.events import EventRows
from store.fields import VALUE_TYPES, ValueColumn
from store.reading.merge import merge_columns, time_insertions
from store.records.codec import decode_extras, decode_user
from store.records.layout import open_record
from store.records.rows import stream_of_rows, widen, widen_values
from store.retrieval import BehaviorColumns
from store.types import NO_ID, UserColumns, UserExtras

if TYPE_CHECKING:
    from collections.abc import Collection

    from store.fields import FieldColumn
    from store.reading.live_delta import LiveDelta
    from store.reading.loaded import LoadedGeneration
    from store.types import I64, AnyArray, Bool


class UserView:
    """One user's record, deletion and live events, looked up once; for one thread, while the snapshot is open."""

    def __init__(
        self, user: int, record: memoryview | None, generation: LoadedGeneration, live: LiveDelta | None, *, check: bool
    ) -> None:
        """Use `Snapshot.user`."""
        self.user = user
        self._generation = generation
        self._live = live
        self._check = check
        self._is_deleted = live is not None and live.has_deleted(user)
        self._record = None if self._is_deleted else record
        self._rows = None if live is None else live.rows(user)

    @cached_property
    def columns(self) -> UserColumns:
        """Everything the user did; empty for an unknown user.

        Without live events the columns are views of the record and nothing of it but the header is read; otherwise
        they are new arrays.

        Raises:
            CorruptRecordError: The record is damaged; the message names the user.
        """
        if self._live is None or self._rows is None:
            return self._base
        return merge_columns(self._base, self._live.resolve(self._rows))

    @property
    def num_rows(self) -> int:
        """Number of behaviors, whatever their time, as the record's header and the live events say it; decodes nothing.

        Raises:
            CorruptRecordError: The record has no header that can be read.
        """
        stored = 0 if self._record is None else open_record(self._record)[1]
        return stored + (0 if self._rows is None else len(self._rows.timestamp_ms))

    @property
    def fields(self) -> dict[str, FieldColumn]:
        """Side-info fields of the user, each (1,); missing where the user is unknown or deleted."""
        return self._generation.users.lookup(np.array([NO_ID if self._is_deleted else self.user], np.uint64))

    def history(
        self,
        *,
        as_of_ms: int | None = None,
        domains: Collection[str] | None = None,
        limit: int | None = None,
        skip: int = 0,
    ) -> BehaviorColumns:
        """Gives behaviors in time order, oldest first; new arrays. Copies only the behaviors it gives.

        The arguments are those of `positions`.
        """
        return self.behaviors(self.positions(as_of_ms=as_of_ms, domains=domains, limit=limit, skip=skip))

    def positions(
        self,
        *,
        as_of_ms: int | None = None,
        domains: Collection[str] | None = None,
        limit: int | None = None,
        skip: int = 0,
    ) -> I64:
        """Gives the positions of behaviors in time order, ascending: what `behaviors` and `behavior_fields` take.

        Args:
            as_of_ms: Only behaviors strictly before this time; None = all.
            domains: Only behaviors of these domains; None = of all. A name the store does not know has none.
            limit: Only the newest that many; None = all.
            skip: Leave out this many of the newest: the page before.
        """
        columns = self.columns
        count = columns.num_behaviors if as_of_ms is None else columns.num_before(as_of_ms)
        if domains is None:
            stop = max(count - skip, 0)
            return np.arange(0 if limit is None else max(stop - limit, 0), stop)
        names = self._generation.vocabulary if self._live is None else self._live.words.vocabulary
        codes = [code for code, name in enumerate(names.domains) if name in domains]
        of_domains = np.isin(columns.domain_and_action(columns.order[:count].astype(np.int64))[0], codes)
        positions = np.flatnonzero(of_domains)
        stop = max(len(positions) - skip, 0)
        return positions[0 if limit is None else max(stop - limit, 0) : stop]

    def behaviors(self, positions: I64) -> BehaviorColumns:
        """Gives some behaviors by their positions in time order (`UserColumns.rank`), as asked; new arrays. (U,)."""
        columns = self.columns
        rows = columns.order[positions].astype(np.int64)
        domain, action = columns.domain_and_action(rows)
        return BehaviorColumns(
            item=columns.item[rows].astype(np.uint64),
            category=self._generation.taxonomy.category_of(columns.node[rows]),
            timestamp_ms=columns.timestamp_ms[rows],
            domain=domain,
            action=action,
            scene=columns.scene[rows].astype(np.uint16),
        )

    def behavior_fields(self, positions: I64, names: tuple[str, ...]) -> dict[str, ValueColumn]:
        """Gives side-info fields of some behaviors; that of the others is not read.

        The plain twin is `events`. Cost: O(positions), and O(log N) for each live event.

        Args:
            positions: Which behaviors, by their positions in time order; any order. (U,)
            names: Which fields.

        Returns:
            By name, as asked, new arrays, (U,) each: ids, `NO_ID` = missing, or float32, NaN = missing.

        Raises:
            FieldError: The generation has no such field. One that only the delta has is none before the next.
            CorruptRecordError: As `columns`.
        """
        kinds = self._generation.meta.behavior_fields
        known = [name for name, _ in kinds]
        for at, name in enumerate(names):
            if name not in known:
                raise FieldError(
                    f"behavior_fields[{at}]: {name[:64]!r} is no side-info field of behaviors; store "
                    f"{self._generation.name} has {', '.join(known) or 'none'}",
                    "behavior",
                    name,
                )
        if not names:
            return {}
        in_base, base_at, live_row = self._sources(positions)
        base_row = self._base.order[base_at]
        out: dict[str, ValueColumn] = {}
        for name in names:
            number = known.index(name)
            values: AnyArray = VALUE_TYPES[kinds[number][1]].missing(len(positions))
            values[in_base] = widen_values(self._extras.fields[number][base_row])
            if self._live is not None and self._rows is not None:
                live = self._rows.fields.get(self._live.words.field_codes.get(name, -1))
                if live is not None:
                    values[~in_base] = live[live_row]
            out[name] = values
        return out

    def events(self) -> EventRows:
        """Gives the behaviors as they were written, in time order, ties in event order; new arrays.

        With everything that is kept of them, always with a column of event ids; in the codes of the snapshot's
        vocabulary, with the side-info fields of `StoreMeta.behavior_fields`.

        Raises:
            CorruptRecordError: As `columns`.
        """
        columns, extras = self._base, self._extras
        order = columns.order.astype(np.int64)
        base = EventRows(
            user=np.full(len(order), self.user, np.uint64),
            item=columns.item[order].astype(np.uint64),
            category=widen(extras.category[order]),
            timestamp_ms=columns.timestamp_ms[order],
            stream=stream_of_rows(columns)[order],
            scene=columns.scene[order].astype(np.uint16),
            key=np.full(len(order), NO_ID, np.uint64) if extras.key is None else extras.key[order],
            fields=tuple(widen_values(column[order]) for column in extras.fields),
        )
        if self._live is None or self._rows is None:
            return base
        joined = EventRows.join([base, self._live.events(self.user, self._rows)])
        return joined.take(np.argsort(joined.timestamp_ms, kind="stable"))

    @cached_property
    def _base(self) -> UserColumns:
        if self._record is None:
            return UserColumns.empty()
        try:
            return decode_user(self._record, check=self._check)
        except CorruptRecordError as exc:
            raise self._damaged(exc) from exc

    @cached_property
    def _extras(self) -> UserExtras:
        if self._record is None:
            kinds = self._generation.meta.behavior_fields
            fields = tuple(VALUE_TYPES[kind].missing(0) for _, kind in kinds)
            return UserExtras(category=np.empty(0, np.uint64), key=None, fields=fields)
        try:
            return decode_extras(self._record)
        except CorruptRecordError as exc:
            raise self._damaged(exc) from exc

    def _damaged(self, exc: CorruptRecordError) -> CorruptRecordError:
        return CorruptRecordError(f"{self._generation.data_file}: user {self.user}: {exc}")

    def _sources(self, positions: I64) -> tuple[Bool, I64, I64]:
        """Gives which positions are base rows, their positions among these alone, and the live rows of the others."""
        if self._rows is None:
            return np.ones(len(positions), np.bool_), positions, positions[:0]
        by_time = np.argsort(self._rows.timestamp_ms, kind="stable")
        # Of one time base rows come first.
        base_before = time_insertions(self._base, self._rows.timestamp_ms[by_time].tolist())
        live_positions = np.array(base_before, np.int64) + np.arange(len(by_time))
        at = np.searchsorted(live_positions, positions)
        in_base = live_positions[np.minimum(at, len(by_time) - 1)] != positions
        return in_base, (positions - at)[in_base], by_time[at[~in_base]]
