"""Audits the delta: every row, and that no event is there twice or after its user was deleted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from store.delta.delta import Delta
from store.delta.layout import (
    ADVICE,
    META_SEQUENCE,
    META_TRIMMED,
    META_WORDS,
    NO_WORDS,
    Tombstone,
    decode_words,
    split_event_keys,
)
from store.delta.rows import NO_ROWS, DeltaRows, decode_rows
from store.errors import CorruptRecordError
from store.files.arrays import find_sorted
from store.files.environment import DATA_FILE, translate
from store.keys import unmix_one
from store.taxonomy.ordering import stable_order
from store.types import NO_ID

if TYPE_CHECKING:
    from pathlib import Path

    from store.fields import FieldKind
    from store.files.environment import Transaction
    from store.types import U64, Bool

_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaAudit:
    """What a sound delta holds."""

    num_events: int
    num_tombstones: int
    last_sequence: int
    """Last sequence number given."""
    num_unmerged: int
    """Events behind the audited generation."""


def audit_delta(root: Path, merged: int) -> DeltaAudit | None:
    """Reads the delta of a store and checks it as of one moment; None when there is none.

    Args:
        root: The store.
        merged: Sequence number up to which the audited generation has everything.

    Raises:
        CorruptRecordError: The first damage found; the message names the event or the user.
        CorruptGenerationError: LMDB cannot read it.
    """
    delta = Delta.open(root)
    if delta is None:
        return None
    folder = delta.environment.folder
    with translate(folder, advice=ADVICE), delta.environment.begin(delta.databases.events) as transaction:
        audit = _Audit(delta, transaction)
        problem = audit.find_problem(merged)
        if problem:
            raise CorruptRecordError(f"{folder / DATA_FILE}: {problem}; {ADVICE}")
        return DeltaAudit(
            num_events=len(audit.events),
            num_tombstones=audit.num_tombstones,
            last_sequence=audit.last_sequence,
            num_unmerged=int(np.count_nonzero(audit.events.sequence > np.uint64(merged))),
        )


class _Audit:
    """One look at the delta, in one transaction."""

    def __init__(self, delta: Delta, transaction: Transaction[bytes]) -> None:
        self._databases = delta.databases
        self._transaction = transaction
        self.last_sequence = delta.databases.number(transaction, META_SEQUENCE)
        version = delta.databases.number(transaction, META_WORDS)
        words = transaction.cursor(delta.databases.words).iternext()
        self._words = decode_words(version, words) if version else NO_WORDS
        self.num_tombstones = 0
        self.events = NO_ROWS
        """All events, without their side-info."""
        self._users = np.empty(0, np.uint64)
        """User key of each."""

    def find_problem(self, merged: int) -> str | None:
        """Gives what is wrong; None when all is well."""
        trimmed = self._databases.number(self._transaction, META_TRIMMED)
        if trimmed > merged:
            return f"it is trimmed up to {trimmed}, the generation has merged only up to {merged}"
        return self._find_event_problem() or self._find_repeated() or self._find_tombstone_problem()

    def _find_event_problem(self) -> str | None:
        kinds: list[FieldKind] = [kind for _, kind in self._words.fields]
        items = self._transaction.cursor(self._databases.events).iternext()
        all_users, all_rows = [self._users], [NO_ROWS]
        while block := list(islice(items, _BLOCK_ROWS)):
            users, sequences = split_event_keys([key for key, _ in block])
            try:
                rows = decode_rows([value for _, value in block], users, kinds)
            except CorruptRecordError as exc:
                return str(exc)
            bad = np.flatnonzero(self._bad_rows(sequences, rows))
            if len(bad):
                return f"the event with sequence number {sequences[bad[0]]} does not fit its key or the words"
            all_users.append(users)
            all_rows.append(replace(rows, fields={}))
        self._users, self.events = np.concatenate(all_users), DeltaRows.join(all_rows)
        in_order = np.sort(self.events.sequence)
        repeated = np.flatnonzero(in_order[1:] == in_order[:-1])
        return f"two events have sequence number {in_order[repeated[0]]}" if len(repeated) else None

    def _bad_rows(self, sequences: U64, rows: DeltaRows) -> Bool:
        words = self._words
        bad: Bool = (rows.sequence != sequences) | (sequences > np.uint64(self.last_sequence)) | (sequences == 0)
        for codes, names in (
            (rows.domain, words.domains),
            (rows.action, words.actions),
            (rows.scene, words.scenes),
        ):
            bad |= codes.astype(np.int64) >= len(names)
        return bad

    def _find_repeated(self) -> str | None:
        events = self.events
        keyed = np.flatnonzero(events.key != np.uint64(NO_ID))
        plain = np.flatnonzero(events.key == np.uint64(NO_ID))
        for rows, columns in (
            (keyed, (self._users, events.key)),
            (plain, (self._users, events.item, events.action, events.timestamp_ms)),
        ):
            keys = [column[rows] for column in columns]
            order = stable_order(*keys)
            same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
            if same.any():
                at = int(np.flatnonzero(same)[0])
                first, second = sorted(events.sequence[rows[order[at : at + 2]]].tolist())
                return f"the events with sequence numbers {first} and {second} are one"
        return None

    def _find_tombstone_problem(self) -> str | None:
        entries = list(self._transaction.cursor(self._databases.deleted).iternext())
        self.num_tombstones = len(entries)
        keys = np.array([int.from_bytes(key, "big") for key, _ in entries], np.uint64)
        sequences = np.array([Tombstone.unpack(key, value).sequence for key, value in entries], np.uint64)
        late = np.flatnonzero(sequences > np.uint64(self.last_sequence))
        if len(late):
            return f"a deletion has sequence number {sequences[late[0]]}, the last one given is {self.last_sequence}"
        at, found = find_sorted(keys, self._users)
        if found.any():
            found &= self.events.sequence <= sequences[at]
        left = np.flatnonzero(found)
        return f"an event of deleted user {unmix_one(int(self._users[left[0]]))} is left" if len(left) else None
