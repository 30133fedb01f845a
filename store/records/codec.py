"""One user's behaviors as bytes: records of format version 2 of `FORMAT.md`, decoded without a copy.

`block_codec.encode_block` writes the records of many users at once; `encode_user` is its plain twin for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.errors import CorruptRecordError
from store.records.block_codec import columns_by_number
from store.records.layout import (
    CHECKED_FROM,
    HEADER,
    MAGIC,
    MAX_SHORT_ROWS,
    ORDER,
    RANK,
    SECTION,
    VERSION,
    checksum,
    open_record,
    plan_columns,
)
from store.types import Section, UserColumns, UserExtras

if TYPE_CHECKING:
    from store.records.layout import Buffer


def encode_user(columns: UserColumns, extras: UserExtras) -> bytes:
    """Gives the record of one user; its length is a multiple of 8.

    The rows must already stand in the order that `UserColumns` describes; this is not checked.
    """
    num_rows = columns.num_behaviors
    position = np.uint16 if num_rows <= MAX_SHORT_ROWS else np.uint32
    arrays = columns_by_number(columns, extras)
    arrays |= {RANK: columns.rank.astype(position), ORDER: columns.order.astype(position)}
    layout = plan_columns({number: values.dtype for number, values in arrays.items()})
    body = layout.directory + b"".join(SECTION.pack(s.domain, s.action, 0, s.stop) for s in columns.sections)
    body += b"".join(arrays[column.number].astype(column.kind).tobytes() for column in layout.columns)
    header = HEADER.pack(MAGIC, VERSION, 0, 0, num_rows, len(columns.sections), len(layout.columns))
    record = header + body + bytes(-len(body) % 8)
    return record[:8] + checksum(record).to_bytes(8, "little") + record[CHECKED_FROM:]


def decode_user(buffer: Buffer, *, check: bool = False) -> UserColumns:
    """Gives a user's columns as read-only views of a record; copies nothing.

    Args:
        buffer: One record, of exactly its length; the columns are valid for as long as it is.
        check: Also compare the checksum, reading every byte. Without it only the header is checked, in O(1): every
            column lies inside the buffer.

    Raises:
        CorruptRecordError: No record, one of an unknown version, truncated, or damaged.
    """
    layout, num_rows, sections_at, data_at = open_record(buffer)
    if check and checksum(buffer) != HEADER.unpack_from(buffer)[3]:
        raise CorruptRecordError("a record does not match its checksum: run `lookback-store ingest --replace`")
    sections = _decode_sections(buffer[sections_at:data_at], num_rows)
    node, timestamp_ms, item, scene, rank, order = [
        np.frombuffer(buffer, kind, num_rows, data_at + num_rows * at) for kind, at in layout.core
    ]
    return UserColumns(
        sections=sections,
        node=node,
        timestamp_ms=timestamp_ms,
        item=item,
        scene=scene,
        rank=rank,
        order=order,
    )


def decode_extras(buffer: Buffer) -> UserExtras:
    """Gives what a record holds beside the columns, as read-only views of it; copies nothing.

    Raises:
        CorruptRecordError: As `decode_user` without the check.
    """
    layout, num_rows, _, data_at = open_record(buffer)
    category, *fields = [np.frombuffer(buffer, kind, num_rows, data_at + num_rows * at) for kind, at in layout.extras]
    key = None
    if layout.key is not None:
        kind, at = layout.key
        key = np.frombuffer(buffer, kind, num_rows, data_at + num_rows * at)
    return UserExtras(category=category, key=key, fields=tuple(fields))


def num_rows(buffer: Buffer) -> int:
    """Gives the number of rows of a record.

    Raises:
        CorruptRecordError: As `decode_user` without the check.
    """
    return open_record(buffer)[1]


def _decode_sections(directory: Buffer, num_rows: int) -> tuple[Section, ...]:
    sections = []
    start = 0
    for domain, action, _, stop in SECTION.iter_unpack(directory):
        if not start < stop <= num_rows:
            raise CorruptRecordError("a record's sections do not ascend: run `lookback-store verify`")
        sections.append(Section(domain, action, start, stop))
        start = stop
    if start != num_rows:
        raise CorruptRecordError(
            f"a record's sections hold {start} of its {num_rows} rows: run `lookback-store verify`"
        )
    return tuple(sections)
