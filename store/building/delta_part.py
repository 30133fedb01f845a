"""The delta as spilled rows, for the next build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from store.building.spill import SpillPart, SpillWriter
from store.events import STREAMS_PER_DOMAIN, EventRows
from store.fields import VALUE_TYPES, FieldKinds, ValueType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from store.delta.delta import DeltaTransaction
    from store.delta.rows import DeltaRows
    from store.types import F32, U64

_FLUSH_ROWS = 1 << 18


def spill_delta(
    transaction: DeltaTransaction, after: int, folder: Path, partition_bits: int, kinds: FieldKinds
) -> SpillPart:
    """Writes all events of the delta behind a sequence number as a part.

    Args:
        transaction: The delta as it is to be merged.
        after: Events up to this sequence are passed over.
        folder: Folder of the part.
        partition_bits: Logarithm of the number of partitions.
        kinds: Side-info fields of the build.

    Raises:
        CorruptRecordError: A row is damaged.
        StoreIOError: The disk is full.
    """
    words = transaction.words()
    codes = {name: code for code, (name, _) in enumerate(words.fields)}
    with SpillWriter(folder, partition_bits, kinds) as writer:
        for users, rows in _batches(transaction.scan(None, None, after)):
            writer.write(_event_rows(users, rows, codes, kinds))
        return writer.finish(words.domains, words.actions, words.scenes, bad_rows=())


def _batches(scan: Iterator[tuple[int, DeltaRows]]) -> Iterator[tuple[U64, list[DeltaRows]]]:
    users: list[int] = []
    parts: list[DeltaRows] = []
    num_rows = 0
    for user, rows in scan:
        users.append(user)
        parts.append(rows)
        num_rows += len(rows)
        if num_rows >= _FLUSH_ROWS:
            yield np.repeat(np.array(users, np.uint64), [len(part) for part in parts]), parts
            users, parts, num_rows = [], [], 0
    if parts:
        yield np.repeat(np.array(users, np.uint64), [len(part) for part in parts]), parts


def _event_rows(users: U64, parts: list[DeltaRows], codes: dict[str, int], kinds: FieldKinds) -> EventRows:
    domain = np.concatenate([part.domain for part in parts]).astype(np.uint16)
    action = np.concatenate([part.action for part in parts])
    return EventRows(
        user=users,
        item=np.concatenate([part.item for part in parts]),
        category=np.concatenate([part.category for part in parts]),
        timestamp_ms=np.concatenate([part.timestamp_ms for part in parts]),
        stream=domain * np.uint16(STREAMS_PER_DOMAIN) + action,
        scene=np.concatenate([part.scene for part in parts]),
        key=np.concatenate([part.key for part in parts]),
        fields=tuple(_joined_field(parts, codes.get(name, -1), VALUE_TYPES[kind]) for name, kind in kinds),
    )


def _joined_field(parts: list[DeltaRows], code: int, values: ValueType[Any]) -> U64 | F32:
    columns = (part.fields.get(code) for part in parts)
    joined: U64 | F32 = values.join(
        [values.missing(len(part)) if column is None else column for part, column in zip(parts, columns, strict=True)]
    )
    return joined
