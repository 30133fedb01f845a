"""Tells repeated events from new ones, without an index on disk.

The writer holds a 64-bit hash of every event of the delta in memory, 8 bytes each. An event whose hash is not among
them is new; where it is, the events of its user are read and compared, so that no chance collision loses an event.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from store.delta.layout import SEGMENT_BITS, segment_prefix, split_event_keys
from store.delta.rows import peek_rows
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from store.files.environment import Cursor
    from store.types import I64, U8, U64, AnyArray, Bool

_BLOCK_ROWS = 65_536
_FEW = 256
"""Batches above this size are sorted in at once."""
_MANY = 4096
"""Hashes that came in small batches are sorted in together when there are this many."""
_NONE = np.empty(0, np.uint64)
_BITS_PER_HASH = 16
_FEW_BITS = 16
"""Up to this many bits are set one by one: faster than a call of numpy."""
_SMALLEST_FILTER = 20
"""log2 of the bits."""
_ONE = np.uint8(1)
_ITEM_WEIGHT, _TIME_WEIGHT, _ACTION_WEIGHT, _KEY_WEIGHT = (
    np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
)
"""Odd, so that no bit is lost modulo 2**64."""


def event_hashes(user_keys: U64, key: U64, item: U64, action: U8, timestamp_ms: I64) -> U64:
    """Gives hashes, equal for equal events: of one user and event id, or without one of one item, action and time.

    Each (N,).
    """
    plain = item * _ITEM_WEIGHT + timestamp_ms.view(np.uint64) * _TIME_WEIGHT + action * _ACTION_WEIGHT
    return user_keys + np.where(key == np.uint64(NO_ID), plain, key * _KEY_WEIGHT)


def event_identities(user_keys: U64, key: U64, item: U64, action: U8, timestamp_ms: I64) -> list[bytes]:
    """Gives what `event_hashes` are hashes of, as bytes. Each (N,)."""
    keyed = key != np.uint64(NO_ID)
    none = np.uint64(0)
    table = np.empty((len(keyed), 5), np.uint64)
    table[:, 0] = user_keys
    table[:, 1] = key
    table[:, 2] = np.where(keyed, none, item)
    table[:, 3] = np.where(keyed, none, action)
    table[:, 4] = np.where(keyed, none, timestamp_ms.view(np.uint64))
    identities: list[bytes] = table.view("V40")[:, 0].tolist() if len(table) else []
    return identities


class SeenEvents:
    """Hashes of the events of the delta, by segment. Not thread-safe.

    Hashes of events that were removed may stay: they only cost a look.
    """

    def __init__(self) -> None:
        self._segments: dict[int, U64] = {}
        """Ascending hashes by segment."""
        self._recent: dict[int, int] = {}
        """Segment by hash, of events that came a few at a time: nothing is sorted for a single one."""
        self._filter = HashFilter()
        """Of all of them."""

    @staticmethod
    def load(cursor: Cursor[bytes]) -> SeenEvents:
        """Reads all events, a little more than a microsecond each.

        Args:
            cursor: Of the sub-database of events.
        """
        seen = SeenEvents()
        items = cursor.iternext() if cursor.first() else iter(())
        while block := list(islice(items, _BLOCK_ROWS)):
            users, numbers = split_event_keys([key for key, _ in block])
            rows = peek_rows([value for _, value in block])
            seen.add(numbers, event_hashes(users, rows.key, rows.item, rows.action, rows.timestamp_ms))
        return seen

    def add(self, sequence: U64, hashes: U64) -> None:
        """Takes in new events. Each (N,)."""
        if not self._filter.add(hashes):
            self._filter = HashFilter.of([hashes, *self._hashes()])
        if len(sequence) > _FEW:
            self._sort_in(sequence >> np.uint64(SEGMENT_BITS), hashes)
            return
        for number, event in zip(hashes.tolist(), sequence.tolist(), strict=True):
            segment = event >> SEGMENT_BITS
            if len(self._recent) >= _MANY or self._recent.get(number, segment) != segment:
                recent = self._recent
                self._recent = {}
                segments = np.fromiter(recent.values(), np.uint64, len(recent))
                self._sort_in(segments, np.fromiter(recent.keys(), np.uint64, len(recent)))
            self._recent[number] = segment

    def suspects(self, hashes: U64) -> tuple[Bool, list[tuple[int, I64]]]:
        """Gives which events may repeat one of the delta or one another, and the segments with the rows to look for.

        Args:
            hashes: (N,)
        """
        suspect = np.zeros(len(hashes), np.bool_)
        if len(hashes) > 1:
            order = np.argsort(hashes)
            ordered = hashes[order]
            same = ordered[1:] == ordered[:-1]
            suspect[order[1:][same]] = True
            suspect[order[:-1][same]] = True
        likely = self._filter.may_hold(hashes).nonzero()[0]
        places = self._find(hashes, likely) if len(likely) else []
        for _, found in places:
            suspect[found] = True
        return suspect, places

    def _find(self, hashes: U64, rows: I64) -> list[tuple[int, I64]]:
        """Gives the segments that hold hashes of some rows, with these rows."""
        places = []
        wanted = hashes[rows]
        for segment, known in self._segments.items():
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            found = rows[known[at] == wanted]
            if len(found):
                places.append((segment, found))
        for row, number in zip(rows.tolist(), wanted.tolist(), strict=True) if self._recent else ():
            segment = self._recent.get(number, -1)
            if segment >= 0:
                places.append((segment, np.array([row])))
        return places

    def _hashes(self) -> Iterator[U64]:
        yield from self._segments.values()
        yield np.fromiter(self._recent, np.uint64, len(self._recent))

    def _sort_in(self, segment: U64, hashes: U64) -> None:
        for number in np.unique(segment).tolist():
            mine = np.sort(hashes[segment == number])
            known = self._segments.get(number, _NONE)
            self._segments[number] = np.insert(known, np.searchsorted(known, mine), mine)

    def forget(self, up_to: int) -> None:
        """Drops the segments whose events have numbers up to that."""
        first = (up_to + 1) >> SEGMENT_BITS
        self._segments = {segment: known for segment, known in self._segments.items() if segment >= first}
        self._recent = {number: segment for number, segment in self._recent.items() if segment >= first}


class HashFilter:
    """Tells hashes that were never added from those that may have been, by one bit each, `_BITS_PER_HASH` or more.

    The upper bits of a hash are the number of its bit. Not a Python set: that takes about 60 bytes a hash and a look-up
    in Python for each event, this one 2 to 4 bytes and one call of numpy for a batch.
    """

    def __init__(self, log2_bits: int = _SMALLEST_FILTER) -> None:
        self._bits = np.zeros(1 << log2_bits - 3, np.uint8)
        self._shift = np.uint64(64 - log2_bits)
        self._room = (1 << log2_bits) // _BITS_PER_HASH

    @staticmethod
    def of(hashes: Sequence[U64]) -> HashFilter:
        """Gives a filter that has room for as many again."""
        count = sum(map(len, hashes))
        made = HashFilter(max(_SMALLEST_FILTER, (2 * _BITS_PER_HASH * count).bit_length()))
        for some in hashes:
            made.add(some)
        return made

    def add(self, hashes: U64) -> bool:
        """Takes in hashes, (N,); gives False, and takes none, when there is no room for them."""
        if len(hashes) > self._room:
            return False
        self._room -= len(hashes)
        bit = hashes >> self._shift
        if len(hashes) <= _FEW_BITS:
            for number in bit.tolist():
                self._bits[number >> 3] |= 1 << (number & 7)
        else:
            np.bitwise_or.at(self._bits, bit >> np.uint64(3), _ONE << (bit & np.uint64(7)).astype(np.uint8))
        return True

    def may_hold(self, hashes: U64) -> Bool:
        """Gives False for those that were never added, (N,)."""
        bit = hashes >> self._shift
        held: Bool = (self._bits[bit >> np.uint64(3)] >> (bit & np.uint64(7)).astype(np.uint8) & _ONE).astype(np.bool_)
        return held


def stored_identities(cursor: Cursor[bytes], user_keys: U64, places: list[tuple[int, I64]], after: int) -> set[bytes]:
    """Gives the identities of the events that some users have in some segments.

    Of events that the generation has merged it says itself which it holds: it may have dropped some.

    Args:
        cursor: Of the sub-database of events.
        user_keys: (N,)
        places: Segments and the rows whose users to read there.
        after: Only events with a larger sequence number.
    """
    values: list[bytes] = []
    users: list[AnyArray] = []
    for segment, rows in places:
        for user in np.unique(user_keys[rows]).tolist():
            prefix = segment_prefix(segment, user.to_bytes(8, "big"))
            found = values_with_prefix(cursor, prefix)
            values += found
            users.append(np.full(len(found), user, np.uint64))
    if not values:
        return set()
    stored = peek_rows(values)
    identities = event_identities(np.concatenate(users), stored.key, stored.item, stored.action, stored.timestamp_ms)
    return {identity for identity, number in zip(identities, stored.sequence.tolist(), strict=True) if number > after}


def values_with_prefix(cursor: Cursor[bytes], prefix: bytes) -> list[bytes]:
    """Gives the values whose keys start with a prefix of user and segment."""
    values = []
    found = cursor.set_range(prefix)
    while found and cursor.key()[: len(prefix)] == prefix:
        values.append(cursor.value())
        found = cursor.next()
    return values
