"""Where things stand in a record: header and column directory of `FORMAT.md`, version 2."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from store.errors import CorruptRecordError

if TYPE_CHECKING:
    from collections.abc import Iterable

    Buffer = bytes | memoryview
    Kind = np.dtype[Any]

MAGIC = b"LBUC"
VERSION = 2

HEADER = struct.Struct("<4sHHQIHH")
"""Magic, version, zero, checksum of what is behind it, rows, sections, columns."""
SECTION = struct.Struct("<BBHI")
"""Domain code, action code, zero, stop row."""
CHECKED_FROM = 16
"""The checksum is of every byte from here on."""
MAX_SHORT_ROWS = 1 << 16
"""Positions of up to this many rows take 16 bits."""

NODE, TIMESTAMP_MS, ITEM, SCENE, RANK, ORDER, CATEGORY, EVENT_KEY = range(1, 9)
"""Numbers of the columns."""
FIRST_FIELD = 16
"""Number of the first side-info field's column."""
MAX_FIELDS = 256 - FIRST_FIELD
"""Side-info fields there can be: a column's number is one byte."""

_U1, _U2, _U4, _U8, _I8, _F4 = (np.dtype(name) for name in ("u1", "<u2", "<u4", "<u8", "<i8", "<f4"))
_KINDS: dict[int, Kind] = {1: _U1, 2: _U2, 3: _U4, 4: _U8, 6: _I8, 7: _F4}
"""Types by their codes, which are those of `columns.DType`."""
_CODES = {kind: code for code, kind in _KINDS.items()}
_REQUIRED: dict[int, tuple[Kind, ...]] = {
    NODE: (_U4,),
    TIMESTAMP_MS: (_I8,),
    ITEM: (_U4, _U8),
    SCENE: (_U1, _U2),
    RANK: (_U2, _U4),
    ORDER: (_U2, _U4),
    CATEGORY: (_U1, _U2, _U4, _U8),
}
_FIELD_KINDS = (_U1, _U2, _U4, _U8, _F4)

_START = struct.Struct("<QQIHH16s")
"""The header with magic, version and zero as one word, and the shortest directory there is."""
_FIRST_WORD = int.from_bytes(MAGIC + VERSION.to_bytes(2, "little") + bytes(2), "little")
_VERIFY = "run `lookback-store verify`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a record of N rows."""

    number: int
    kind: Kind
    at: int
    """Bytes per row of the columns before it: it begins N * `at` bytes behind the header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What one column directory says."""

    columns: tuple[Column, ...]
    """All of them, in the order they stand in."""
    core: tuple[tuple[Kind, int], ...]
    """Type and `at` of node, timestamp_ms, item, scene, rank, order."""
    extras: tuple[tuple[Kind, int], ...]
    """Type and `at` of category and the side-info fields."""
    key: tuple[Kind, int] | None
    """Type and `at` of the event ids; None = there are none."""
    width: int
    """Bytes per row of all columns."""
    max_rows: int
    directory: bytes
    """Padded to a multiple of 8."""


def plan_columns(kinds: dict[int, Kind]) -> Layout:
    """Gives the layout of a new record: widest columns first, so that each is aligned, then by number.

    Args:
        kinds: Type of each column, by number.
    """
    numbers = sorted(kinds, key=lambda number: (-kinds[number].itemsize, number))
    pairs = b"".join(bytes((number, _CODES[kinds[number].newbyteorder("<")])) for number in numbers)
    return layout_of(pairs + bytes(-len(pairs) % 8), len(numbers))


@lru_cache(maxsize=1024)
def layout_of(directory: bytes, num_columns: int) -> Layout:
    """Gives what a column directory says; a store has few different ones.

    Raises:
        CorruptRecordError: A type is unknown, a column is absent, there twice, of another type than it may be, or
            stands behind a narrower one.
    """
    columns: dict[int, Column] = {}
    width, last = 0, 8
    for position in range(0, 2 * num_columns, 2):
        number, code = directory[position : position + 2]
        kind = _KINDS.get(code)
        if kind is None:
            raise CorruptRecordError(f"a record's column {number} has the unknown type {code}: {_VERIFY}")
        if number == 0 or number in columns or kind.itemsize > last:
            raise CorruptRecordError(f"a record's column {number} is out of place: {_VERIFY}")
        columns[number] = Column(number=number, kind=kind, at=width)
        width, last = width + kind.itemsize, kind.itemsize
    if any(directory[2 * num_columns :]):
        raise CorruptRecordError(f"a record's column directory is damaged: {_VERIFY}")
    numbers = range(FIRST_FIELD, FIRST_FIELD + sum(number >= FIRST_FIELD for number in columns))
    for number, allowed in (_REQUIRED | dict.fromkeys(numbers, _FIELD_KINDS)).items():
        if number not in columns or columns[number].kind not in allowed:
            raise CorruptRecordError(f"a record's column {number} is absent or of another type: {_VERIFY}")
    if EVENT_KEY in columns and columns[EVENT_KEY].kind != _U8:
        raise CorruptRecordError(f"a record's column {EVENT_KEY} is of another type: {_VERIFY}")
    short = columns[RANK].kind.itemsize == 2 or columns[ORDER].kind.itemsize == 2
    return Layout(
        columns=tuple(columns.values()),
        core=_places(columns, (NODE, TIMESTAMP_MS, ITEM, SCENE, RANK, ORDER)),
        extras=_places(columns, (CATEGORY, *numbers)),
        key=_places(columns, (EVENT_KEY,))[0] if EVENT_KEY in columns else None,
        width=width,
        max_rows=MAX_SHORT_ROWS if short else 2**32 - 1,
        directory=directory,
    )


def _places(columns: dict[int, Column], numbers: Iterable[int]) -> tuple[tuple[Kind, int], ...]:
    return tuple((columns[number].kind, columns[number].at) for number in numbers)


def open_record(buffer: Buffer) -> tuple[Layout, int, int, int]:
    """Checks a record's header and that every column lies inside it; O(1).

    Returns:
        The layout, the number of rows, where the sections begin, and where the columns begin.

    Raises:
        CorruptRecordError: No record, one of an unknown version, truncated, or with a damaged header.
    """
    size = len(buffer)
    if size < _START.size:
        raise CorruptRecordError(f"a record of {size} bytes is truncated: {_VERIFY}")
    first_word, _, num_rows, num_sections, num_columns, directory = _START.unpack_from(buffer)
    if first_word != _FIRST_WORD:
        raise _foreign(buffer)
    sections_at = HEADER.size + (2 * num_columns + 7 & ~7)
    data_at = sections_at + SECTION.size * num_sections
    if size < data_at:
        raise CorruptRecordError(f"a record ends inside its header: {_VERIFY}")
    if sections_at != _START.size:
        directory = bytes(buffer[HEADER.size : sections_at])
    layout = layout_of(directory, num_columns)
    if size != data_at + (num_rows * layout.width + 7 & ~7) or num_rows > layout.max_rows:
        raise CorruptRecordError(f"a record of {num_rows} rows has {size} bytes, which is wrong: {_VERIFY}")
    return layout, num_rows, sections_at, data_at


def _foreign(buffer: Buffer) -> CorruptRecordError:
    magic, version, zero, *_ = HEADER.unpack_from(buffer)
    if magic != MAGIC or zero != 0:
        return CorruptRecordError(f"a record starts with {magic!r}, not {MAGIC!r}: {_VERIFY}")
    return CorruptRecordError(
        f"a record has format version {version}, this program reads {VERSION}: upgrade the program, "
        "or run `lookback-store ingest --replace`"
    )


def checksum(buffer: Buffer) -> int:
    """Gives the checksum that a record must hold."""
    return xxhash.xxh3_64_intdigest(memoryview(buffer)[CHECKED_FROM:])
