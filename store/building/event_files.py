"""Behaviors files of a dataset folder, one piece after another, as event rows with codes of their own."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from store.building.names import NameSpill
from store.building.spill import SpillPart, SpillWriter, finished_part
from store.dataset.bad_rows import BadRows
from store.dataset.parsing import IdPool, WordPool, id_field, number_field, times
from store.dataset.readers import empty_batch, estimated_rows, find_files, read_batches, row_groups_of
from store.dataset.side_tables import IdPools, side_fields
from store.errors import InputError
from store.events import STREAMS_PER_DOMAIN, EventRows
from store.fields import VALUE_TYPES, FieldKind, FieldKinds, ValueColumn, value_type_of
from store.lists import Lists
from store.vocabulary import MAX_CODES, MAX_SCENES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from store.dataset.batch import Batch
    from store.dataset.readers import RowGroups

_REQUIRED = {"user", "item", "category", "domain", "action", "timestamp_ms"}
_OPTIONAL = {"scene", "event_id"}
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
    kinds: FieldKinds
    """Side-info fields of all files."""
    estimated_rows: int


def find_behavior_files(folder: Path) -> BehaviorFiles:
    """Looks at the behaviors files of a folder, in the order of their names; reads the start of each.

    A side-info field is of numbers where its column is; in a CSV file, where all its values near the start are.

    Raises:
        InputError: A file cannot be read, lacks a column, or has a field of another kind than another file.
    """
    paths = find_files(folder, "behaviors", many=True)
    kinds: FieldKinds = ()
    for path in paths:
        kinds = join_kinds(kinds, _kinds_of(path), str(path))
    pieces = [Piece(path=path, part=part) for path in paths for part in row_groups_of(path, _PIECE_ROWS)]
    return BehaviorFiles(pieces=tuple(pieces), kinds=kinds, estimated_rows=sum(map(estimated_rows, paths)))


def join_kinds(first: FieldKinds, second: FieldKinds, where: str) -> FieldKinds:
    """Gives the side-info fields of two sources.

    Raises:
        InputError: One of them is of ids in one source and of numbers in the other.
    """
    joined = dict(first)
    for name, kind in second:
        if joined.setdefault(name, kind) != kind:
            raise InputError(
                f"{where}: {name} is a side-info field of {kind}s, elsewhere it is one of {joined[name]}s; "
                "give the column one type"
            )
    return tuple(sorted(joined.items()))


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
            piece.path, _REQUIRED, _OPTIONAL, bad_rows, free=True, words=_WORDS, part=piece.part, batch_rows=batch_rows
        ):
            writer.write(reader.convert(batch))
            names.take(reader.pools)
            num_rows += len(batch)
            progress(batch.fraction, num_rows)
        names.take(reader.pools, everything=True)
        part = writer.finish(*reader.words(), bad_rows=tuple(bad_rows.rows))
    return part, False


def _kinds_of(path: Path) -> FieldKinds:
    if path.name.endswith(".parquet"):
        batch = empty_batch(path)
    else:
        batch = next(read_batches(path, _REQUIRED, _OPTIONAL, BadRows(sys.maxsize), free=True))
    fields = side_fields(batch, _REQUIRED | _OPTIONAL, IdPool("side-info value"))
    kept = [(name, column) for name, column in fields.items() if not isinstance(column, Lists)]
    if len(kept) < len(fields):
        lists = fields.keys() - {name for name, _ in kept}
        raise InputError(f"{path}: {min(lists)}: a behavior has one value of a side-info field, and no list of them")
    # A column in which all is null has no type: it takes that of the other files.
    known = {name for name, column in batch.columns.items() if not pa.types.is_null(column.type)}
    return tuple((name, value_type_of(column).kind) for name, column in kept if name in known)


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
        good = batch.report(self._bad_rows)
        return rows if good.all() else rows.take(good)

    def _field(self, batch: Batch, name: str, kind: FieldKind) -> ValueColumn:
        column = batch.columns.get(name)
        if column is None or pa.types.is_null(column.type):
            missing: ValueColumn = VALUE_TYPES[kind].missing(len(batch))
            return missing
        return id_field(batch, name, self.pools.values) if kind == "id" else number_field(batch, name)
