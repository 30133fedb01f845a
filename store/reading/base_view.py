"""What an append asks of the generation it goes on top of: its words, and which events it holds already."""

from __future__ import annotations

from bisect import bisect_left
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from store.records.codec import decode_extras, decode_user
from store.types import NO_ID

if TYPE_CHECKING:
    from store.base.files import BaseTransaction
    from store.events import EventBatch
    from store.fields import FieldKinds
    from store.reading.loaded import LoadedGeneration
    from store.types import I64, Bool, UserColumns, Vocabulary

_FEW = 4
"""Up to this many event ids of one user are each compared with all; for more, a set of all is made."""


class GenerationView:
    """One generation, for the length of one append; not thread-safe."""

    def __init__(self, generation: LoadedGeneration, base: BaseTransaction) -> None:
        """Looks at a generation through an open transaction of its base."""
        self._meta = generation.meta
        self._base = base
        self._actions = {name: code for code, name in enumerate(generation.vocabulary.actions)}
        self.vocabulary: Vocabulary = generation.vocabulary
        self.fields: FieldKinds = generation.meta.behavior_fields
        self.delta_sequence = generation.meta.delta_sequence

    def repeated(self, events: EventBatch, rows: I64) -> Bool:
        """Gives which events the base holds already; see `BaseView`.

        A user's record is read once, and not at all for events that are newer than every behavior of the base and have
        no event id: live events mostly are.

        Raises:
            CorruptRecordError: A record is damaged.
        """
        keyed = events.key[rows] != np.uint64(NO_ID)
        possible = np.where(keyed, self._meta.keyed, events.timestamp_ms[rows] <= self._meta.last_ms)
        out = np.zeros(len(rows), np.bool_)
        if not possible.any():
            return out
        # Plain lists: most users have one event here, and a call of numpy costs as much as the whole look-up.
        wanted = zip(np.flatnonzero(possible).tolist(), rows[possible].tolist(), strict=True)
        users: list[int] = events.user.tolist()
        for user, group in groupby(wanted, key=lambda pair: users[pair[1]]):
            record = self._base.record(user)
            if record is not None:
                user_rows = _UserRows(record)
                for at, row in group:
                    out[at] = self._holds(user_rows, events, row)
        return out

    def _holds(self, rows: _UserRows, events: EventBatch, row: int) -> bool:
        key = int(events.key[row])
        if key != NO_ID:
            return rows.has_key(key)
        action = self._actions.get(events.action[row], -1)
        return rows.has_plain(int(events.item[row]), action, int(events.timestamp_ms[row]))


class _UserRows:
    """What a record says of some events; decoded as far as it is asked."""

    def __init__(self, record: memoryview) -> None:
        self._record = record
        self._keys = decode_extras(record).key
        self._columns: UserColumns | None = None
        self._known: set[int] | None = None
        self._num_asked = 0

    def has_key(self, key: int) -> bool:
        """Gives whether an event with this id is there."""
        if self._keys is None:
            return False
        self._num_asked += 1
        if self._num_asked <= _FEW:
            return bool((self._keys == np.uint64(key)).any())
        if self._known is None:
            self._known = set(self._keys.tolist())
        return key in self._known

    def has_plain(self, item: int, action: int, timestamp_ms: int) -> bool:
        """Gives whether an event without an event id, of one item, action and time, is there."""
        if self._columns is None:
            self._columns = decode_user(self._record)
        columns = self._columns
        order, time = columns.order.data, columns.timestamp_ms.data
        at = bisect_left(order, timestamp_ms, key=time.__getitem__)
        while at < len(order) and time[order[at]] == timestamp_ms:
            row = order[at]
            if columns.item[row] == item and (self._keys is None or self._keys[row] == np.uint64(NO_ID)):
                section = next(section for section in columns.sections if row < section.stop)
                if section.action == action:
                    return True
            at += 1
        return False
