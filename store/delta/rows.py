"""Rows of the delta as bytes: 48 of them and 16 more per side-info value, with a checksum. Whole columns at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from store.columns import Columns
from store.errors import CorruptRecordError
from store.events import STREAMS_PER_DOMAIN, EventRows
from store.fields import VALUE_TYPES, ValueColumn, value_type_of
from store.lists import positions_within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from store.fields import FieldKind, FieldKinds
    from store.types import I64, U8, U16, U64

ROW_BYTES = 48
FIELD_BYTES = 16
_ROW_WORDS = ROW_BYTES // 8
_FIELD_WORDS = FIELD_BYTES // 8
_CHECK_SHIFT = np.uint64(40)
_UNCHECKED = np.uint64((1 << 40) - 1)
_MULTIPLIER = 0x9E3779B97F4A7C15
"""Odd, so that no power of it is lost modulo 2**64."""
_MAX_WORDS = 1 + _ROW_WORDS + _FIELD_WORDS * 255
_WEIGHTS = np.array([pow(_MULTIPLIER, power, 2**64) for power in range(1, _MAX_WORDS + 1)], np.uint64)
_USER_WEIGHT = _WEIGHTS[0]
_WORD_WEIGHTS = _WEIGHTS[1:]
_HEAD_WEIGHTS = _WORD_WEIGHTS[:_ROW_WORDS, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRows(Columns):
    """Events of the delta in the order of their sequence numbers, columns of length N."""

    sequence: U64
    item: U64
    category: U64
    """As given; `NO_ID` = none."""
    timestamp_ms: I64
    key: U64
    """Event id; `NO_ID` = none."""
    domain: U8
    """Code in the delta's own words; so are `action` and `scene`."""
    action: U8
    scene: U16
    fields: Mapping[int, ValueColumn] = field(default_factory=lambda: MappingProxyType({}))
    """Side-info by its code in the delta's own words; only fields of which some row has a value. uint64 ids, `NO_ID` =
    missing, or float32, NaN = missing."""

    @property
    def stream(self) -> U16:
        """Stream of each row, in the delta's own codes. (N,)."""
        return self.domain * np.uint16(STREAMS_PER_DOMAIN) + self.action

    def to_events(self, users: U64, codes: Mapping[str, int], kinds: FieldKinds) -> EventRows:
        """Gives the rows with their users, in the delta's own codes.

        Args:
            users: User ids. (N,)
            codes: Code of each side-info field.
            kinds: Side-info fields to give.
        """
        found = [(self.fields.get(codes.get(name, -1)), VALUE_TYPES[kind]) for name, kind in kinds]
        return EventRows(
            user=users,
            item=self.item,
            category=self.category,
            timestamp_ms=self.timestamp_ms,
            stream=self.stream,
            scene=self.scene,
            key=self.key,
            fields=tuple(values.missing(len(self)) if column is None else column for column, values in found),
        )


NO_ROWS = DeltaRows(
    sequence=np.empty(0, np.uint64),
    item=np.empty(0, np.uint64),
    category=np.empty(0, np.uint64),
    timestamp_ms=np.empty(0, np.int64),
    key=np.empty(0, np.uint64),
    domain=np.empty(0, np.uint8),
    action=np.empty(0, np.uint8),
    scene=np.empty(0, np.uint16),
)


def encode_rows(user_keys: U64, rows: DeltaRows) -> list[bytes]:
    """Gives the bytes of each row.

    Args:
        user_keys: Mixed id of each row's user; it is part of the checksum. (N,)
        rows: N rows.
    """
    present = {code: value_type_of(column).given(column) for code, column in sorted(rows.fields.items())}
    if not present:
        return _encode_plain(user_keys, rows)
    num_fields = np.zeros(len(rows), np.int64)
    for given in present.values():
        num_fields += given
    starts = np.cumsum(_ROW_WORDS + _FIELD_WORDS * num_fields)
    words = np.zeros(int(starts[-1]) if len(starts) else 0, "<u8")
    starts -= _ROW_WORDS + _FIELD_WORDS * num_fields
    for word, column in enumerate(_head_words(rows)):
        words[starts + word] = column
    words[starts + 5] |= num_fields.astype(np.uint64) << np.uint64(32)
    at = starts + _ROW_WORDS
    for code, given in present.items():
        words[at[given]] = code
        words[at[given] + 1] = value_type_of(rows.fields[code]).to_words(rows.fields[code])[given]
        at += _FIELD_WORDS * given
    words[starts + 5] |= _checksums(words, starts, user_keys) << _CHECK_SHIFT
    data = words.tobytes()
    bounds = [*(starts * 8).tolist(), len(data)]
    return [data[start:stop] for start, stop in pairwise(bounds)]


def decode_rows(values: Sequence[bytes], user_keys: U64, kinds: Sequence[FieldKind]) -> DeltaRows:
    """Gives the columns of some rows; new arrays.

    Args:
        values: The bytes of each row, in the order of the sequence numbers. (N,)
        user_keys: Mixed id of each row's user. (N,) or (1,) where all are of one user.
        kinds: Kind of each side-info code.

    Raises:
        CorruptRecordError: A row does not match its checksum, its length or the words of the delta.
    """
    data = b"".join(values)
    words = np.frombuffer(data, "<u8") if len(data) % 8 == 0 else _refuse()
    if len(words) == _ROW_WORDS * len(values):
        return _columns(_plain_heads(words, user_keys), {})
    starts, heads = _heads(words, np.fromiter(map(len, values), np.int64, len(values)), user_keys)
    counts = ((heads[5] & _UNCHECKED) >> np.uint64(32)).astype(np.int64)
    return _columns(heads, _decode_fields(words, starts + _ROW_WORDS, counts, kinds))


def find_row_damage(words: U64, lengths: I64, user_keys: U64, sequence: U64) -> str | None:
    """Gives what is wrong with some rows, None when nothing is; their side-info codes are not looked at.

    Args:
        words: The bytes of the rows, one after another.
        lengths: Bytes of each row, multiples of 16. (N,)
        user_keys: Mixed id of each row's user. (N,)
        sequence: Number of each row. (N,)
    """
    try:
        if (lengths == ROW_BYTES).all():
            heads = _plain_heads(words, user_keys)
        else:
            _, heads = _heads(words, lengths, user_keys)
    except CorruptRecordError as exc:
        return str(exc)
    return None if np.array_equal(heads[4], sequence) else "a row of the delta stands under another number"


def _plain_heads(words: U64, user_keys: U64) -> U64:
    """Gives the head words of rows without side-info, checked, as columns."""
    heads = words.reshape(-1, _ROW_WORDS).T.copy()  # a copy also of a single row, which is contiguous as it is
    _check_plain(heads, user_keys)
    return heads


def _heads(words: U64, lengths: I64, user_keys: U64) -> tuple[I64, U64]:
    """Gives where each row begins, and the head words of all of them, checked, as columns."""
    starts = (np.cumsum(lengths) - lengths) // 8
    if ((lengths < ROW_BYTES) | (lengths % FIELD_BYTES != 0)).any() or lengths.max() > ROW_BYTES + 255 * FIELD_BYTES:
        _refuse()
    heads = words[starts + np.arange(_ROW_WORDS)[:, None]]
    found = (heads[5] & _UNCHECKED) >> np.uint64(32)
    if not np.array_equal(found, ((lengths - ROW_BYTES) // FIELD_BYTES).astype(np.uint64)):
        _refuse()
    if not np.array_equal(_checksums(words, starts, user_keys), heads[5] >> _CHECK_SHIFT):
        _refuse()
    return starts, heads


def peek_rows(values: Sequence[bytes]) -> DeltaRows:
    """Gives the columns of some rows without their side-info, and without a check: for removing them."""
    words = np.frombuffer(b"".join([value[:ROW_BYTES] for value in values]), "<u8")
    return _columns(np.ascontiguousarray(words.reshape(-1, _ROW_WORDS).T), {})


def _encode_plain(user_keys: U64, rows: DeltaRows) -> list[bytes]:
    """Does for rows without side-info what `encode_rows` does for any, in half the time."""
    words = np.empty((len(rows), _ROW_WORDS), "<u8")
    for at, column in enumerate(_head_words(rows)):
        words[:, at] = column
    sums = (words * _WORD_WEIGHTS[:_ROW_WORDS]).sum(axis=1) + user_keys * _USER_WEIGHT
    words[:, 5] |= sums >> _CHECK_SHIFT << _CHECK_SHIFT
    whole: list[bytes] = words.view(f"V{ROW_BYTES}")[:, 0].tolist() if len(rows) else []
    return whole


def _head_words(rows: DeltaRows) -> tuple[U64, ...]:
    """Gives the six words of each row, without number of fields and checksum."""
    codes = rows.domain.astype(np.uint64) | (rows.action.astype(np.uint64) << np.uint64(8))
    codes |= rows.scene.astype(np.uint64) << np.uint64(16)
    return rows.item, rows.category, rows.timestamp_ms.view(np.uint64), rows.key, rows.sequence, codes


def _check_plain(heads: U64, user_keys: U64) -> None:
    """Does for rows without side-info what `_checksums` does for any, three times as fast."""
    given = heads[5].copy()
    heads[5] &= _UNCHECKED
    sums = (heads * _HEAD_WEIGHTS).sum(axis=0) + user_keys * _USER_WEIGHT
    # The rest of the word counts the fields, of which there are none.
    if ((sums ^ given) >> _CHECK_SHIFT).any() or (heads[5] >> np.uint64(32)).any():
        _refuse()


def _checksums(words: U64, starts: I64, user_keys: U64) -> U64:
    """Gives the checksum of each row: the upper 24 bits of a weighted sum of its words and of its user's key.

    Not xxh3: that needs a call for each row, which costs more than decoding it, and every read checks its rows; this
    takes three calls of numpy for a block. It is there for damage, not for tampering.
    """
    if not len(starts):
        return np.zeros(0, np.uint64)
    lengths = np.diff(starts, append=len(words))
    products = words * _WORD_WEIGHTS[positions_within(lengths)]
    products[starts + 5] = (words[starts + 5] & _UNCHECKED) * _WORD_WEIGHTS[5]
    sums: U64 = np.add.reduceat(products, starts) + user_keys * _USER_WEIGHT
    return sums >> _CHECK_SHIFT


def _columns(heads: U64, fields: Mapping[int, ValueColumn]) -> DeltaRows:
    codes = heads[5]
    return DeltaRows(
        sequence=heads[4],
        item=heads[0],
        category=heads[1],
        timestamp_ms=heads[2].view(np.int64),
        key=heads[3],
        domain=codes.astype(np.uint8),
        action=(codes >> np.uint64(8)).astype(np.uint8),
        scene=(codes >> np.uint64(16)).astype(np.uint16),
        fields=fields,
    )


def _decode_fields(words: U64, starts: I64, counts: I64, kinds: Sequence[FieldKind]) -> dict[int, ValueColumn]:
    row = np.repeat(np.arange(len(counts)), counts)
    entry = starts[row] + _FIELD_WORDS * positions_within(counts)
    codes = words[entry]
    fields: dict[int, ValueColumn] = {}
    for code in np.unique(codes).tolist():
        if code >= len(kinds):
            _refuse()
        mine = codes == code
        values = VALUE_TYPES[kinds[code]]
        column = values.missing(len(counts))
        column[row[mine]] = values.of_words(words[entry[mine] + 1])
        fields[code] = column
    return fields


def _refuse() -> U64:
    raise CorruptRecordError("a row of the delta is damaged: run `lookback-store verify`, then restore a backup")
