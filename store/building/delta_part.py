"""The delta as spilled rows, for the next build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.building.spill import SpillPart, SpillWriter

if TYPE_CHECKING:
    from pathlib import Path

    from store.delta.transaction import DeltaTransaction
    from store.fields import FieldKinds


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
        for users, rows in transaction.blocks(after=after):
            writer.write(rows.to_events(users, codes, kinds))
        return writer.finish(words.domains, words.actions, words.scenes)
