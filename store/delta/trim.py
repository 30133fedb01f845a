"""Removes events from the delta, inside a transaction."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from store.delta.layout import META_SEQUENCE, SEGMENT_BITS, segment_prefix, split_event_keys

if TYPE_CHECKING:
    from store.delta.layout import DeltaDatabases
    from store.files.environment import Transaction

_TRIM_ROWS = 20_000
"""Events looked at in one transaction: others wait for it."""


def remove_user(transaction: Transaction[bytes], databases: DeltaDatabases, user_key: bytes) -> list[bytes]:
    """Removes every event of a user, and gives what they were."""
    values: list[bytes] = []
    cursor = transaction.cursor(databases.events)
    if not cursor.first():
        return values
    last = databases.number(transaction, META_SEQUENCE) >> SEGMENT_BITS
    for segment in range(int.from_bytes(cursor.key()[:6], "big"), last + 1):
        prefix = segment_prefix(segment, user_key)
        cursor.set_range(prefix)
        while cursor.key()[:14] == prefix:
            values.append(cursor.value())
            cursor.delete()  # and goes on to the next
    return values


def drop_events(transaction: Transaction[bytes], databases: DeltaDatabases) -> int:
    """Removes every event, and every name: generations that have merged the events have the names too.

    Returns:
        Number of events removed.
    """
    removed = int(transaction.stat(databases.events)["entries"])
    for database in (databases.events, databases.names):
        transaction.drop(database, delete=False)
    return removed


def trim_some(
    transaction: Transaction[bytes], databases: DeltaDatabases, position: bytes, up_to: int
) -> tuple[int, bytes | None]:
    """Removes some of the events up to a sequence number.

    Args:
        transaction: Writes.
        databases: Of the delta.
        position: Key to begin at.
        up_to: Last sequence number to remove.

    Returns:
        How many, and the key to go on from; None at the end.
    """
    cursor = transaction.cursor(databases.events)
    found = cursor.iternext(values=False) if cursor.set_range(position) else iter(())
    keys = list(islice(found, _TRIM_ROWS))
    if not keys:
        return 0, None
    expired = np.flatnonzero(split_event_keys(keys)[1] <= np.uint64(up_to))
    for at in expired.tolist():
        transaction.delete(keys[at], db=databases.events)
    # Segments ascend: behind the one of the last number there is nothing to remove.
    is_done = len(keys) < _TRIM_ROWS or keys[-1] >= segment_prefix((up_to >> SEGMENT_BITS) + 1)
    return len(expired), None if is_done else keys[-1] + b"\0"
