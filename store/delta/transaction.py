"""The delta as it was at one moment: what readers, builds and reports ask of it."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice, pairwise, takewhile
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from store.closing import Closing
from store.delta.checksum import unseal
from store.delta.layout import (
    ADVICE,
    META_FORMAT,
    META_SEQUENCE,
    META_TRIMMED,
    META_WORDS,
    NAME_BYTES,
    NO_WORDS,
    SEGMENT_BITS,
    Tombstone,
    decode_words,
    event_key,
    offset_key,
    split_event_keys,
)
from store.delta.rows import NO_ROWS, decode_rows
from store.delta.segments import SegmentReader, next_users
from store.errors import CorruptRecordError
from store.files.environment import DATA_FILE, translate
from store.keys import mix_one, unmix, unmix_one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from store.delta.delta import Delta
    from store.delta.layout import DeltaWords
    from store.delta.rows import DeltaRows
    from store.fields import FieldKind
    from store.files.environment import Cursor, Database
    from store.types import U64, NameKind

_FIRST_VALUES = 8
_GROWTH = 2
_BLOCK_ROWS = 65_536
_LAST_NUMBER = 2**64 - 1


class DeltaTransaction(Closing):
    """The delta at one moment, for one thread at a time; a context manager. It never waits for the writer."""

    def __init__(self, delta: Delta) -> None:
        """Use `Delta.begin`."""
        self._delta = delta
        self._databases = delta.databases
        self._guard = translate(delta.environment.folder, advice=ADVICE)
        self._transaction = delta.environment.begin(delta.databases.events)
        self._cursor: Cursor[bytes] | None = None
        self._first: int | None = None
        self._last: int | None = None

    def close(self) -> None:
        """Ends the transaction; twice does nothing. What it gave stays valid."""
        self._transaction.abort()

    @property
    def format_version(self) -> int:
        """Version of the layout."""
        return self._number(META_FORMAT)

    @property
    def last_sequence(self) -> int:
        """The last sequence number given; 0 when none was."""
        if self._last is None:
            self._last = self._number(META_SEQUENCE)
        return self._last

    @property
    def trimmed(self) -> int:
        """Events up to this sequence number may have been removed: a generation that has merged less lacks them."""
        return self._number(META_TRIMMED)

    @property
    def num_events(self) -> int:
        """Number of events that have not been trimmed; O(1)."""
        return self._entries(self._databases.events)

    @property
    def num_tombstones(self) -> int:
        """Number of users ever deleted; O(1)."""
        return self._entries(self._databases.deleted)

    def tombstone(self, user: int) -> Tombstone | None:
        """Gives when a user was deleted last, None when never."""
        with self._guard:
            key = _key(mix_one(user))
            value = self._transaction.get(key, db=self._databases.deleted)
        return None if value is None else Tombstone.unpack(key, value)

    def deleted(self) -> Iterator[tuple[int, Tombstone]]:
        """Gives every user ever deleted, in the order of the keys."""
        with self._guard:
            for key, value in self._transaction.cursor(self._databases.deleted).iternext():
                yield _user(key), Tombstone.unpack(key, value)

    def rows(self, user: int, after: int = 0) -> DeltaRows:
        """Gives a user's events in the order of their sequence numbers.

        Args:
            user: User id; an unknown one has none.
            after: Only events with a larger sequence number.

        Raises:
            CorruptRecordError: A row is damaged; the message names the user.
        """
        user_key = _key(mix_one(user))
        values: list[bytes] = []
        with self._guard:
            cursor = self._cursor
            if cursor is None:
                cursor = self._cursor = self._transaction.cursor()
            first = max(after + 1, self._first_sequence(cursor))
            for segment in range(first >> SEGMENT_BITS, (self.last_sequence >> SEGMENT_BITS) + 1):
                start = event_key(max(first, segment << SEGMENT_BITS), user_key)
                if cursor.set_range(start) and cursor.key()[:-2] == start[:-2]:
                    values += _values_below(cursor, start[:-2] + b"\xff\xff\xff")
        if not values:
            return NO_ROWS
        return self._decode(values, np.frombuffer(user_key, ">u8").astype(np.uint64), f"user {user}")

    def scan(
        self, first_key: bytes | None = None, end_key: bytes | None = None, after: int = 0
    ) -> Iterator[tuple[int, DeltaRows]]:
        """Gives the events of every user in a range of keys, in the order of the keys; users without any are left out.

        Args:
            first_key: First user key, 8 bytes; None = from the start.
            end_key: User key to stop before; None = to the end.
            after: Only events with a larger sequence number.

        Raises:
            CorruptRecordError: A row is damaged.
        """
        for users, rows in self.blocks(first_key, end_key, after):
            starts = np.flatnonzero(np.append(True, users[1:] != users[:-1])).tolist()
            for start, stop in pairwise([*starts, len(users)]):
                yield int(users[start]), rows.take(slice(start, stop))

    def blocks(
        self, first_key: bytes | None = None, end_key: bytes | None = None, after: int = 0
    ) -> Iterator[tuple[U64, DeltaRows]]:
        """Gives what `scan` gives, many users at a time: the user of each event, and the events; no user in two blocks.

        Raises:
            CorruptRecordError: A row is damaged.
        """
        for keys, sequence, values in self._raw_blocks(first_key, end_key, after):
            rows = self._decode(values, keys, "a user")
            if not np.array_equal(rows.sequence, sequence):
                raise CorruptRecordError(f"{self._file}: a row of the delta stands under another number; {ADVICE}")
            yield unmix(keys), rows

    def user_ids(self, after: int = 0) -> Iterator[int]:
        """Gives every user who has an event with a larger sequence number, in the order of the keys."""
        for keys, _, _ in self._raw_blocks(None, None, after):
            yield from unmix(np.unique(keys)).tolist()

    def words(self) -> DeltaWords:
        """Gives the names behind the codes of the rows."""
        version = self._number(META_WORDS)
        if version == 0:
            return NO_WORDS
        words = self._delta.last_words
        if words.version != version:
            with self._guard:
                words = decode_words(version, self._transaction.cursor(self._databases.words).iternext())
            if words.version > self._delta.last_words.version:
                self._delta.last_words = words
        return words

    def name(self, kind: NameKind, key: int) -> str | None:
        """Gives the name that came with an event, None where there is none."""
        with self._guard:
            entry = NAME_BYTES[kind] + _key(key)
            value = self._transaction.get(entry, db=self._databases.names)
        return None if value is None else unseal(entry, value).decode()

    def names(self, kind: NameKind) -> Iterator[tuple[int, str]]:
        """Gives every name of a kind, ascending by id."""
        with self._guard:
            cursor = self._transaction.cursor(self._databases.names)
            items = cursor.iternext() if cursor.set_range(NAME_BYTES[kind]) else iter(())
            for key, value in takewhile(lambda item: item[0][:1] == NAME_BYTES[kind], items):
                yield int.from_bytes(key[1:], "big"), unseal(key, value).decode()

    def offset(self, source: str) -> bytes | None:
        """Gives how far a source has been taken in, in its own words; None = not at all.

        Raises:
            InputError: It cannot be the name of a source.
        """
        key = offset_key(source)
        with self._guard:
            value = self._transaction.get(key, db=self._databases.offsets)
        return None if value is None else unseal(key, value)

    def offsets(self) -> Iterator[tuple[str, bytes]]:
        """Gives that of every source, ascending by name."""
        with self._guard:
            for key, value in self._transaction.cursor(self._databases.offsets).iternext():
                yield key.decode(), unseal(key, value)

    def _raw_blocks(
        self, first_key: bytes | None, end_key: bytes | None, after: int
    ) -> Iterator[tuple[U64, U64, list[bytes]]]:
        """Gives user keys, ascending, with sequence numbers, ascending for one user, and values of many events."""
        with self._guard:
            cursor = self._transaction.cursor()
            first = max(after + 1, self._first_sequence(cursor))
        segments = range(first >> SEGMENT_BITS, (self.last_sequence >> SEGMENT_BITS) + 1)
        readers = [SegmentReader(self._transaction.cursor(), segment, first_key, end_key) for segment in segments]
        while readers:
            with self._guard:
                items = next_users(readers, _BLOCK_ROWS)
            readers = [reader for reader in readers if reader.held]
            if not items:
                continue
            keys, sequence = split_event_keys([key for key, _ in items])
            rows = np.flatnonzero(sequence > np.uint64(after))
            rows = rows[np.argsort(keys[rows], kind="stable")]
            if len(rows):
                yield keys[rows], sequence[rows], [items[row][1] for row in rows.tolist()]

    def _first_sequence(self, cursor: Cursor[bytes]) -> int:
        """Gives a sequence number that no event is before."""
        if self._first is None:
            self._first = int.from_bytes(cursor.key()[:6], "big") << SEGMENT_BITS if cursor.first() else _LAST_NUMBER
        return self._first

    def _decode(self, values: list[bytes], keys: U64, owner: str) -> DeltaRows:
        kinds: list[FieldKind] = [kind for _, kind in self.words().fields]
        try:
            return decode_rows(values, keys, kinds)
        except CorruptRecordError as exc:
            raise CorruptRecordError(f"{self._file}: {owner}: {exc}") from exc

    @property
    def _file(self) -> Path:
        return self._delta.environment.folder / DATA_FILE

    def _number(self, name: bytes) -> int:
        with self._guard:
            return self._databases.number(self._transaction, name)

    def _entries(self, database: Database) -> int:
        return int(self._transaction.stat(database)["entries"])


def _values_below(cursor: Cursor[bytes], end: bytes) -> list[bytes]:
    """Gives the values from where a cursor stands to a key; few at first, for most users have few."""
    items = cursor.iternext()
    found: list[tuple[bytes, bytes]] = []
    size = _FIRST_VALUES
    while True:
        more = list(islice(items, size))
        found += more
        if len(more) < size or found[-1][0] >= end:
            break
        size *= _GROWTH
    count = bisect_left(found, end, key=itemgetter(0))
    return [value for _, value in found[:count]]


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _user(key: bytes) -> int:
    return unmix_one(int.from_bytes(key[:8], "big"))
