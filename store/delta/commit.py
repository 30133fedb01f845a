"""One append to the delta, inside its transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.delta.checksum import seal
from store.delta.dedupe import event_hashes, event_identities, stored_identities
from store.delta.layout import (
    META_SEQUENCE,
    META_WORDS,
    NAME_BYTES,
    NUMBER,
    SEGMENT_BITS,
    Tombstone,
    event_keys,
)
from store.delta.rows import DeltaRows, encode_rows
from store.fields import ID, ValueColumn, value_type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from store.delta.batch import BaseView
    from store.delta.dedupe import SeenEvents
    from store.delta.layout import DeltaDatabases
    from store.delta.validate import Intake
    from store.delta.vocabulary import WordCodes, WriterWords
    from store.files.environment import Database, Transaction
    from store.types import I64, U8, U64, Bool, NameKind

_NEVER_DELETED = Tombstone(sequence=0, deleted_ms=-1)


class Append:
    """Applies one append transaction: refuses, deduplicates, encodes and writes its events.

    Rows are looked at by user key, so that neighbours in the B-trees are touched together.
    """

    def __init__(
        self,
        transaction: Transaction[bytes],
        databases: DeltaDatabases,
        words: WriterWords,
        seen: SeenEvents,
        intake: Intake,
        base: BaseView,
    ) -> None:
        self._transaction = transaction
        self._databases = databases
        self._words = words
        self._seen = seen
        self._intake = intake
        self._base = base
        num_rows = len(intake.events)
        self._codes = {name: np.zeros(num_rows, np.int64) for name in ("domain", "action", "scene")}
        self._hidden = np.zeros(num_rows, np.bool_)
        self._hashes = np.empty(num_rows, np.uint64)
        self.written = np.empty(0, np.uint64), np.empty(0, np.uint64)
        """Sequence numbers and hashes of the accepted events."""

    def run(self, sequence: int) -> tuple[int, int]:
        """Applies the transaction.

        Args:
            sequence: Last sequence number given.

        Returns:
            The last sequence number given now, and the version of the words.
        """
        self._refuse_words()
        self._refuse_deleted()
        rows = self._without_duplicates(self._intake.open_rows())
        if len(rows) == 0:
            self._words.abort()
            return sequence, self._words.version
        self._forget_unused_words(rows)
        self._put_events(rows, sequence)
        self._put_names(rows)
        last = sequence + len(rows)
        self._put(self._databases.meta, [(META_SEQUENCE, NUMBER.pack(last))])
        return last, self._put_words()

    def _refuse_words(self) -> None:
        """Gives every word a code."""
        events, known = self._intake.events, self._base.vocabulary
        rows = self._intake.open_rows()
        kinds: tuple[tuple[str, WordCodes, Sequence[str], Sequence[str]], ...] = (
            ("domain", self._words.domain, events.domain, known.domains),
            ("action", self._words.action, events.action, known.actions),
            ("scene", self._words.scene, events.scene, known.scenes),
        )
        listed: list[int] = rows.tolist()
        for name, codes, words, generation in kinds:
            if len(listed) == len(words):
                self._codes[name], refused = codes.take(words, generation)
                taken = self._codes[name][rows] if refused else self._codes[name]
            else:
                taken, refused = codes.take([words[row] for row in listed], generation)
                self._codes[name][rows] = taken
            if refused:
                without_code: list[int] = rows[taken < 0].tolist()
                self._refuse(rows[taken < 0], {row: refused[words[row]] for row in without_code})

    def _refuse_deleted(self) -> None:
        """Refuses events up to the deletion of their user, and notes the users whose base rows are hidden."""
        deleted = self._databases.deleted
        rows = self._intake.open_rows()
        if not len(rows) or self._transaction.stat(deleted)["entries"] == 0:
            return
        users, owner = np.unique(self._intake.user_key[rows], return_inverse=True)
        keys = [user.to_bytes(8, "big") for user in users.tolist()]
        found = dict(self._transaction.cursor(deleted).getmulti(keys))
        if not found:
            return
        tombstones = [Tombstone.unpack(key, found[key]) if key in found else _NEVER_DELETED for key in keys]
        sequence = np.array([tombstone.sequence for tombstone in tombstones], np.uint64)
        deleted_ms = np.array([tombstone.deleted_ms for tombstone in tombstones], np.int64)[owner]
        self._hidden[rows] = (sequence > np.uint64(self._base.delta_sequence))[owner]
        times = self._intake.events.timestamp_ms[rows]
        late = times <= deleted_ms
        reasons = {
            row: f"timestamp_ms: {moment} is not after {limit}, when the user was deleted"
            for row, moment, limit in zip(
                rows[late].tolist(), times[late].tolist(), deleted_ms[late].tolist(), strict=True
            )
        }
        self._refuse(rows[late], reasons)

    def _without_duplicates(self, rows: I64) -> I64:
        """Gives the rows that are new; marks the others."""
        fresh = rows[self._fresh_in_delta(rows)]
        asked = fresh[~self._hidden[fresh]]
        repeated = np.zeros(len(self._intake.events), np.bool_)
        repeated[asked] = self._base.repeated(self._intake.events, asked)
        fresh = fresh[~repeated[fresh]]
        self._intake.duplicate[rows] = True
        self._intake.duplicate[fresh] = False
        return fresh

    def _fresh_in_delta(self, rows: I64) -> Bool:
        """Gives which rows neither stand in the delta behind the generation nor repeat an earlier row."""
        fresh = np.ones(len(rows), np.bool_)
        hashes = event_hashes(*self._identifying(rows))
        self._hashes[rows] = hashes
        suspect, places = self._seen.suspects(hashes)
        if not suspect.any():
            return fresh
        cursor = self._transaction.cursor(self._databases.events)
        known = stored_identities(cursor, self._intake.user_key[rows], places, self._base.delta_sequence)
        suspects = np.flatnonzero(suspect)
        for at, identity in zip(suspects.tolist(), event_identities(*self._identifying(rows[suspects])), strict=True):
            if identity in known:
                fresh[at] = False
            known.add(identity)
        return fresh

    def _identifying(self, rows: I64) -> tuple[U64, U64, U64, U8, I64]:
        events = self._intake.events
        action = self._codes["action"][rows].astype(np.uint8)
        return self._intake.user_key[rows], events.key[rows], events.item[rows], action, events.timestamp_ms[rows]

    def _forget_unused_words(self, rows: I64) -> None:
        """Drops new words that only duplicates use."""
        for name in ("domain", "action", "scene"):
            codes: WordCodes = getattr(self._words, name)
            recode = codes.forget_unused(self._codes[name][rows])
            if recode is not None:
                self._codes[name][rows] = recode[self._codes[name][rows]]
                self._hashes[rows] = event_hashes(*self._identifying(rows))

    def _put_events(self, rows: I64, sequence: int) -> None:
        events = self._intake.events
        numbers = np.empty(len(rows), np.uint64)
        numbers[rows.argsort()] = np.arange(sequence + 1, sequence + 1 + len(rows), dtype=np.uint64)
        written = DeltaRows(
            sequence=numbers,
            item=events.item[rows],
            category=events.category[rows],
            timestamp_ms=events.timestamp_ms[rows],
            key=events.key[rows],
            domain=self._codes["domain"][rows].astype(np.uint8),
            action=self._codes["action"][rows].astype(np.uint8),
            scene=self._codes["scene"][rows].astype(np.uint16),
            fields=self._coded_fields(rows),
        )
        user_key = self._intake.user_key[rows]
        keys = event_keys(user_key, numbers)
        items = zip(keys, encode_rows(user_key, written), strict=True)
        crosses = sequence + 1 >> SEGMENT_BITS != sequence + len(rows) >> SEGMENT_BITS
        # In one segment the rows are in the order of the keys already.
        self._put(self._databases.events, sorted(items) if crosses else items)
        self.written = numbers, self._hashes[rows]

    def _coded_fields(self, rows: I64) -> dict[int, ValueColumn]:
        fields: dict[int, ValueColumn] = {}
        for name, column in self._intake.events.fields.items():
            mine = column[rows]
            values = value_type_of(mine)
            if values.given(mine).any():
                fields[self._words.field(name, values.kind)] = mine
        return fields

    def _put_names(self, rows: I64) -> None:
        items: list[tuple[bytes, bytes]] = []
        for kind, names in self._intake.events.names.items():
            if names:
                kept = names.keys() & self._ids(kind, rows)
                items += [_name_item(kind, key, names[key]) for key in kept]
        if items:
            self._transaction.cursor(self._databases.names).putmulti(sorted(items), overwrite=False)

    def _ids(self, kind: NameKind, rows: I64) -> set[int]:
        """Gives the ids of a kind that some events have."""
        events = self._intake.events
        columns: dict[NameKind, list[ValueColumn]] = {
            "user": [events.user],
            "item": [events.item],
            "category": [events.category],
            "value": [column for column in events.fields.values() if value_type_of(column) is ID],
        }
        return {key for column in columns[kind] for key in column[rows].tolist()}

    def _put_words(self) -> int:
        items = list(self._words.new_items())
        if not items:
            return self._words.version
        version = self._words.version + 1
        self._put(self._databases.words, items)
        self._put(self._databases.meta, [(META_WORDS, NUMBER.pack(version))])
        return version

    def _put(self, database: Database, items: Iterable[tuple[bytes, bytes]]) -> None:
        self._transaction.cursor(database).putmulti(items)

    def _refuse(self, rows: I64, reasons: dict[int, str]) -> None:
        mask = np.zeros(len(self._intake.events), np.bool_)
        mask[rows] = True
        self._intake.check.refuse(mask, reasons.__getitem__)


def _name_item(kind: NameKind, number: int, name: str) -> tuple[bytes, bytes]:
    key = NAME_BYTES[kind] + number.to_bytes(8, "big")
    return key, seal(key, name.encode())
