"""What an append asks of the generation it goes on top of: its words, and which events it holds already."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from store.codec import decode_extras, decode_user
from store.types import NO_ID

if TYPE_CHECKING:
    from store.append_types import EventBatch
    from store.base import BaseTransaction
    from store.events import FieldKinds
    from store.loaded import LoadedGeneration
    from store.types import I64, U64, Bool, UserColumns, Vocabulary


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
        at = np.flatnonzero(possible)
        users = events.user[rows[at]]
        for group in np.split(at, np.flatnonzero(users[1:] != users[:-1]) + 1):
            if len(group):
                out[group] = self._repeated_of_user(events, rows[group])
        return out

    def _repeated_of_user(self, events: EventBatch, rows: I64) -> Bool:
        out = np.zeros(len(rows), np.bool_)
        record = self._base.record(int(events.user[rows[0]]))
        if record is None:
            return out
        keyed = events.key[rows] != np.uint64(NO_ID)
        if keyed.any():
            known = decode_extras(record).key
            if known is not None:
                out[keyed] = np.isin(events.key[rows[keyed]], known)
        if not keyed.all():
            columns, keys = decode_user(record), decode_extras(record).key
            for at in np.flatnonzero(~keyed).tolist():
                row = int(rows[at])
                action = self._actions.get(events.action[row], -1)
                out[at] = _holds(columns, keys, int(events.item[row]), action, int(events.timestamp_ms[row]))
        return out


def _holds(columns: UserColumns, keys: U64 | None, item: int, action: int, timestamp_ms: int) -> bool:
    """Gives whether an event without an event id, of one item, action and time, is there."""
    order, time = columns.order, columns.timestamp_ms
    at = bisect_left(order, timestamp_ms, key=time.__getitem__)
    while at < len(order) and time[order[at]] == timestamp_ms:
        row = int(order[at])
        if columns.item[row] == item and (keys is None or keys[row] == np.uint64(NO_ID)):
            section = next(section for section in columns.sections if row < section.stop)
            if section.action == action:
                return True
        at += 1
    return False
