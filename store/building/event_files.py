"""Behaviors files of a dataset folder, one piece after another, as event rows with codes of their own."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.building.names import NameSpill
from store.building.spill import SpillPart, SpillWriter, finished_part
from store.dataset.bad_rows import BadRows
from store.dataset.column_types import Types, join_types, types_in
from store.dataset.field_values import id_field, number_field
from store.dataset.oddities import Oddities, Oddity
from store.dataset.parsing import IdPool, WordPool, times
from store.dataset.readers import empty_batch, estimated_rows, find_files, read_batches, row_groups_of
from store.dataset.side_tables import IdPools
from store.events import STREAMS_PER_DOMAIN, EventRows
from store.fields import VALUE_TYPES, FieldKind, FieldKinds, ValueColumn
from store.vocabulary import MAX_CODES, MAX_SCENES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from store.dataset.batch import Batch
    from store.dataset.readers import RowGroups

REQUIRED = {"user", "item", "category", "domain", "action", "timestamp_ms"}
OPTIONAL = {"scene", "event_id"}
_WORDS = ("domain", "action", "scene")
_PIECE_ROWS = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A file, or a range of a file's row groups, that is read in one go."""

    path: Path
    part: RowGroups | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorFiles:
    """What there is to read."""

    pieces: tuple[Piece, ...]
    """In the order of the input."""
    types: Types
    """Of the side-info fields of all files."""
    odd: tuple[Oddity, ...]
    """What is odd about them."""
    estimated_rows: int


def find_behavior_files(folder: Path) -> BehaviorFiles:
    """Looks at the behaviors files of a folder, in the order of their names.

    Side-info fields have the types of their columns. A CSV file that has any is read through for them.

    Raises:
        InputError: A file cannot be read, lacks a column, or has a field of another kind than another file.
    """
    paths = find_files(folder, "behaviors", many=True)
    pieces = [Piece(path=path, part=part) for path in paths for part in row_groups_of(path, _PIECE_ROWS)]
    odd = Oddities()
    types = join_types(found for path in paths for found in _types_of(path, odd))
    return BehaviorFiles(
        pieces=tuple(pieces), types=types, odd=odd.found(), estimated_rows=sum(map(estimated_rows, paths))
    )


def spill_piece(
    piece: Piece,
    folder: Path,
    kinds: FieldKinds,
    partition_bits: int,
    max_bad_rows: int,
    batch_rows: int,
    progress: Callable[[float, int], None],
) -> tuple[SpillPart, bool]:
    """Reads a piece into a part, unless an earlier run has done it.

    Args:
        piece: What to read.
        folder: Folder of the part; made if need be.
        kinds: Side-info fields of the whole input.
        partition_bits: Logarithm of the number of partitions.
        max_bad_rows: Rows that may be refused.
        batch_rows: Rows of a Parquet file to hold at a time.
        progress: Called with the fraction of the piece that is read and the number of rows.

    Returns:
        The part, and whether it was there already.

    Raises:
        TooManyBadRowsError: More rows are refused than allowed.
        InputError: The file cannot be read.
        StoreIOError: The disk is full.
    """
    done = finished_part(folder)
    if done is not None:
        progress(1.0, done.num_rows)
        return done, True
    bad_rows = BadRows(max_bad_rows)
    reader = _Reader(kinds, bad_rows)
    num_rows = 0
    with SpillWriter(folder, partition_bits, kinds) as writer:
        names = NameSpill(folder)
        for batch in read_batches(
            piece.path, REQUIRED, OPTIONAL, bad_rows, free=True, words=_WORDS, part=piece.part, batch_rows=batch_rows
        ):
            writer.write(reader.convert(batch))
            names.take(reader.pools)
            num_rows += len(batch)
            progress(batch.fraction, num_rows)
        names.take(reader.pools, everything=True)
        part = writer.finish(*reader.words(), bad_rows=tuple(bad_rows.rows), odd=reader.pools.odd.found())
    return part, False


def _types_of(path: Path, odd: Oddities) -> Iterator[Types]:
    own = REQUIRED | OPTIONAL
    if path.name.endswith(".parquet"):
        yield types_in(empty_batch(path), own)
        return
    for batch in read_batches(path, REQUIRED, OPTIONAL, BadRows(sys.maxsize), free=True):
        found = types_in(batch, own, odd)
        yield found
        # What is certain does not change any more, and what would contradict it is a bad row.
        if all(name in found and found[name].is_certain for name in batch.columns.keys() - own):
            return


class _Reader:
    """Makes event rows of batches; keeps the words and names they use."""

    def __init__(self, kinds: FieldKinds, bad_rows: BadRows) -> None:
        self._kinds = kinds
        self._bad_rows = bad_rows
        self._domains = WordPool("domain", MAX_CODES)
        self._actions = WordPool("action", MAX_CODES)
        self._scenes = WordPool("scene", MAX_SCENES)
        self.pools = IdPools()

    def words(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Gives the words of domains, actions and scenes by code, also those of refused rows."""
        return tuple(self._domains.words()), tuple(self._actions.words()), tuple(self._scenes.words())

    def convert(self, batch: Batch) -> EventRows:
        user = self.pools.users.column(batch, "user", required=True)
        item = self.pools.items.column(batch, "item", required=True)
        category = self.pools.categories.column(batch, "category", required=False)
        domain = self._domains.required(batch, "domain")
        action = self._actions.required(batch, "action")
        scene = self._scenes.column(batch, "scene")
        timestamp_ms = times(batch, "timestamp_ms")
        key = None
        if "event_id" in batch.columns:
            # A pool of its own per batch: event ids are many and never shown, so their strings are not kept.
            key = IdPool("event").column(batch, "event_id", required=False)
        rows = EventRows(
            user=user,
            item=item,
            category=category,
            timestamp_ms=timestamp_ms,
            stream=(domain * STREAMS_PER_DOMAIN + action).astype(np.uint16),
            scene=scene.astype(np.uint16),
            key=key,
            fields=tuple(self._field(batch, name, kind) for name, kind in self._kinds),
        )
        self.pools.odd.note_times(batch, "timestamp_ms", timestamp_ms)
        good = batch.report(self._bad_rows)
        return rows if good.all() else rows.take(good)

    def _field(self, batch: Batch, name: str, kind: FieldKind) -> ValueColumn:
        column = batch.columns.get(name)
        if column is None or column.null_count == len(column):
            missing: ValueColumn = VALUE_TYPES[kind].missing(len(batch))
            return missing
        return id_field(batch, name, self.pools.values) if kind == "id" else number_field(batch, name)
