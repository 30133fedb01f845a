"""Rows of a published base as events again, for the next build and for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.events import EventRows, empty_rows
from store.fields import VALUE_TYPES, FieldKinds
from store.records.record_block import decode_block

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def base_rows(
    records: Iterable[tuple[int, memoryview]], own_kinds: FieldKinds, kinds: FieldKinds, left_out: Collection[int]
) -> EventRows:
    """Gives the events of some records, each user's in time order, ties in event order.

    Args:
        records: User ids with their records.
        own_kinds: Side-info fields of the records.
        kinds: Side-info fields to give; those the records lack are missing in all of them.
        left_out: Users to pass over.

    Raises:
        CorruptRecordError: A record is damaged.
    """
    taken = [(user, record) for user, record in records if user not in left_out]
    if not taken:
        return empty_rows(kinds)
    block = decode_block([record for _, record in taken])
    lengths = np.diff(block.bounds)
    in_time = np.repeat(block.bounds[:-1], lengths) + block.order
    position = {name: at for at, (name, _) in enumerate(own_kinds)}
    return EventRows(
        user=np.repeat(np.array([user for user, _ in taken], np.uint64), lengths),
        item=block.item[in_time],
        category=block.category[in_time],
        timestamp_ms=block.timestamp_ms[in_time],
        stream=block.stream[in_time],
        scene=block.scene[in_time],
        key=None if block.key is None else block.key[in_time],
        fields=tuple(
            block.fields[position[name]][in_time] if name in position else VALUE_TYPES[kind].missing(len(in_time))
            for name, kind in kinds
        ),
    )
