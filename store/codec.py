"""One user's behaviors as bytes: format version 1 of `FORMAT.md`, decoded without a copy."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from store.columns import DType
from store.errors import CorruptRecordError
from store.types import Section, UserColumns

if TYPE_CHECKING:
    Buffer = bytes | memoryview

MAGIC = b"LBUC"
VERSION = 1

_START = struct.Struct("<4sHHQ")  # magic, version, zero, checksum over everything behind these 16 bytes
_COUNTS = struct.Struct("<IHH")  # rows, sections, columns
_SECTION = struct.Struct("<BBHI")  # domain, action, zero, stop
_COLUMN = struct.Struct("<BBHI")  # column, dtype, zero, offset
_DIRECTORIES = _START.size + _COUNTS.size
_ENTRY = 8
assert _SECTION.size == _COLUMN.size == _ENTRY

# Number, name, type code, type, bytes per value. The codes are plain integers: an enum compares ten times slower.
_COLUMNS = (
    (1, "node", int(DType.UINT32), np.dtype("<u4"), 4),
    (2, "timestamp_ms", int(DType.INT64), np.dtype("<i8"), 8),
    (3, "item", int(DType.UINT64), np.dtype("<u8"), 8),
    (4, "scene", int(DType.UINT16), np.dtype("<u2"), 2),
    (5, "rank", int(DType.UINT32), np.dtype("<u4"), 4),
    (6, "order", int(DType.UINT32), np.dtype("<u4"), 4),
)
_PADDING = b"\0" * 8


def encode_user(columns: UserColumns) -> bytes:
    """Gives the record of one user; its length is a multiple of 8.

    The rows must already stand in the order that `UserColumns` describes; this is not checked.
    """
    num_rows = columns.num_behaviors
    offset = _DIRECTORIES + _ENTRY * (len(columns.sections) + len(_COLUMNS))
    parts = [_COUNTS.pack(num_rows, len(columns.sections), len(_COLUMNS))]
    parts += [_SECTION.pack(s.domain, s.action, 0, s.stop) for s in columns.sections]
    data: list[bytes] = []
    for number, name, code, dtype, _ in _COLUMNS:
        parts.append(_COLUMN.pack(number, code, 0, offset))
        values = np.asarray(getattr(columns, name), dtype).tobytes()
        padding = -len(values) % 8
        data += (values, _PADDING[:padding])
        offset += len(values) + padding
    body = b"".join(parts + data)
    return _START.pack(MAGIC, VERSION, 0, xxhash.xxh3_64_intdigest(body)) + body


def decode_user(buffer: Buffer, *, check: bool = False) -> UserColumns:
    """Gives a user's columns as read-only views of a record; copies nothing.

    Args:
        buffer: One record, of exactly its length; the columns are valid for as long as it is.
        check: Also compare the checksum, reading every byte. Without it only the header is checked, in O(1): every
            column lies inside the buffer.

    Raises:
        CorruptRecordError: No record, one of an unknown version, truncated, or damaged.
    """
    size = len(buffer)
    if size < _DIRECTORIES or size % 8:
        raise CorruptRecordError(f"a record of {size} bytes is truncated: run `lookback-store verify`")
    magic, version, zero, checksum = _START.unpack_from(buffer, 0)
    if magic != MAGIC or zero != 0:
        raise CorruptRecordError(f"a record starts with {magic!r}, not {MAGIC!r}: run `lookback-store verify`")
    if version != VERSION:
        raise CorruptRecordError(
            f"a record has format version {version}, this program reads {VERSION}: upgrade the program, "
            "or run `lookback-store ingest` again"
        )
    if check and xxhash.xxh3_64_intdigest(memoryview(buffer)[_START.size :]) != checksum:
        raise CorruptRecordError("a record does not match its checksum: run `lookback-store ingest` again")
    num_rows, num_sections, num_columns = _COUNTS.unpack_from(buffer, _START.size)
    if size < _DIRECTORIES + _ENTRY * (num_sections + num_columns):
        raise CorruptRecordError("a record ends inside its header: run `lookback-store verify`")
    columns_start = _DIRECTORIES + _ENTRY * num_sections
    sections = _decode_sections(buffer[_DIRECTORIES:columns_start], num_rows)
    directory = {
        number: (code, offset)
        for number, code, _, offset in _COLUMN.iter_unpack(buffer[columns_start : columns_start + _ENTRY * num_columns])
    }
    views: dict[str, Any] = {}
    for number, name, expected, dtype, width in _COLUMNS:
        code, offset = directory.get(number, (0, 0))
        if code != expected or offset % 8 or offset + num_rows * width > size:
            raise CorruptRecordError(f"a record's column {name} is absent or damaged: run `lookback-store verify`")
        views[name] = np.frombuffer(buffer, dtype, num_rows, offset)
    return UserColumns(sections=sections, **views)


def _decode_sections(directory: Buffer, num_rows: int) -> tuple[Section, ...]:
    sections = []
    start = 0
    for domain, action, _, stop in _SECTION.iter_unpack(directory):
        if not start < stop <= num_rows:
            raise CorruptRecordError("a record's sections do not ascend: run `lookback-store verify`")
        sections.append(Section(domain=domain, action=action, start=start, stop=stop))
        start = stop
    if start != num_rows:
        raise CorruptRecordError(
            f"a record's sections hold {start} of its {num_rows} rows: run `lookback-store verify`"
        )
    return tuple(sections)
