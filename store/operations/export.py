"""Writes a store back as a dataset folder (docs/data.md), so that its data can always be taken elsewhere.

`ingest` of the folder gives a store of the same digest.
"""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from store.dataset.parsing import IdPool
from store.errors import InputError
from store.events import STREAMS_PER_DOMAIN
from store.operations.digest import TABLES, hidden_users, table_batches
from store.publishing.folder import building_folder
from store.reading.scan import scan, user_bounds
from store.types import NO_ID, NameKind, parse_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from store.events import EventRows
    from store.reading.snapshot import Snapshot
    from store.types import U64, AnyArray

_ID_COLUMNS: tuple[NameKind, ...] = ("user", "item", "category")
_COLUMNS_OF: Mapping[NameKind, tuple[tuple[str, str], ...]] = {
    "user": (("users", "user"),),
    "item": (("items", "item"),),
    "category": (("taxonomy", "category"), ("items", "category")),
}
"""Where the strings of ids stand: table and column."""
_ROW_GROUP_ROWS = 1 << 20
_FILE_ROWS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export wrote."""

    generation: str
    """The generation that was read; the delta came with it."""
    num_users: int
    num_behaviors: int
    files: tuple[str, ...]
    """Names of the files, ascending."""


def export(
    snapshot: Snapshot,
    folder: Path,
    *,
    row_group_rows: int = _ROW_GROUP_ROWS,
    file_rows: int = _FILE_ROWS,
    progress: Callable[[float], None] = lambda done: None,
) -> ExportReport:
    """Writes all events and tables of a snapshot as Parquet files, whole or not at all.

    Users stand in key order, the events of one in time order. Memory: one row group and one user. Ids are written as
    the strings they were made of, event ids as numbers. Deleted users are not there.

    Args:
        snapshot: What to export.
        folder: Dataset folder to write; must be empty or not exist.
        row_group_rows: Rows of a row group.
        file_rows: Rows of a file, rounded up to whole row groups.
        progress: Called with the part that is done, 0 to 1.

    Raises:
        InputError: The folder is not empty.
        StoreIOError: The disk is full, or not writable.
        CorruptGenerationError: A record or a table is damaged.
    """
    with building_folder(folder) as building:
        writer = _BehaviorWriter(snapshot, building, row_group_rows, file_rows)
        num_users, total = 0, max(snapshot.meta.num_behaviors, 1)
        with writer:
            for rows in scan(snapshot, block_rows=row_group_rows):
                writer.write(rows)
                num_users += len(user_bounds(rows)) - 1
                progress(min(writer.num_rows / total, 1.0))
        _copy_tables(snapshot, building)
        files = tuple(sorted(path.name for path in building.iterdir()))
    return ExportReport(generation=snapshot.generation, num_users=num_users, num_behaviors=writer.num_rows, files=files)


class _BehaviorWriter:
    """Writes `behaviors-00000.parquet` and so on; a context manager."""

    def __init__(self, snapshot: Snapshot, folder: Path, row_group_rows: int, file_rows: int) -> None:
        self._snapshot = snapshot
        self._folder = folder
        self._row_group_rows = row_group_rows
        self._file_rows = file_rows
        self._strings = _Strings(snapshot)
        self._schema = self._make_schema()
        self._file: Any = None
        self._num_files = 0
        self._rows_in_file = 0
        self.num_rows = 0

    def __enter__(self) -> None:
        self._open()

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, rows: EventRows) -> None:
        """Writes rows as one row group or more."""
        if self._rows_in_file >= self._file_rows:
            self._file.close()
            self._open()
        table = pa.Table.from_arrays(self._arrays(rows), schema=self._schema)
        self._file.write_table(table, row_group_size=self._row_group_rows)
        self._rows_in_file += len(rows)
        self.num_rows += len(rows)

    def _open(self) -> None:
        path = self._folder / f"behaviors-{self._num_files:05}.parquet"
        self._file = pa.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._num_files += 1
        self._rows_in_file = 0

    def _make_schema(self) -> pa.Schema:
        words = [pa.field(name, pa.string()) for name in (*_ID_COLUMNS, "domain", "action", "scene")]
        fields = [
            pa.field(name, pa.string() if kind == "id" else pa.float32())
            for name, kind in self._snapshot.meta.behavior_fields
        ]
        times = [pa.field("timestamp_ms", pa.int64()), pa.field("event_id", pa.uint64())]
        return pa.schema([*words, *times, *fields])

    def _arrays(self, rows: EventRows) -> list[pa.Array]:
        words = self._snapshot.vocabulary
        arrays = [
            self._strings.column("user", rows.user),
            self._strings.column("item", rows.item),
            self._strings.column("category", rows.category),
            _texts(rows.stream // STREAMS_PER_DOMAIN, words.domains),
            _texts(rows.stream % STREAMS_PER_DOMAIN, words.actions),
            _texts(rows.scene, [word or None for word in words.scenes]),
            pa.array(rows.timestamp_ms),
            pa.nulls(len(rows), pa.uint64()) if rows.key is None else _plain_ids(rows.key),
        ]
        for (_, kind), values in zip(self._snapshot.meta.behavior_fields, rows.fields, strict=True):
            # A side-info column of strings is categorical, whatever they look like.
            is_id = kind == "id"
            arrays.append(self._strings.column("value", values) if is_id else pa.array(values, mask=np.isnan(values)))
        return arrays


class _Strings:
    """The strings that ids were made of, in behaviors as in the tables, so that they join."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._in_tables: dict[NameKind, dict[int, str]] = {}

    def column(self, kind: NameKind, ids: AnyArray) -> pa.Array:
        distinct, at = np.unique(ids, return_inverse=True)
        return _texts(at, [self._string(kind, key) for key in distinct.tolist()])

    def _string(self, kind: NameKind, key: int) -> str | None:
        if key == NO_ID:
            return None
        name = self._snapshot.name_of(kind, key)
        if _is_id(name, key):
            return name
        # A name that is only shown has taken the place of the string.
        if kind not in self._in_tables:
            self._in_tables[kind] = _strings_of_table(self._snapshot.path / "tables", kind)
        return self._in_tables[kind].get(key, str(key))


def _is_id(text: str, key: int) -> bool:
    try:
        return parse_id(text) == key
    except InputError:
        return False


def _strings_of_table(tables: Path, kind: NameKind) -> dict[int, str]:
    """Gives the strings behind the hashed ids of the table that describes a kind of thing."""
    pool = IdPool(kind)
    for stem, column in _COLUMNS_OF.get(kind, ()):
        path = tables / f"{stem}.parquet"
        if path.is_file():
            with pa.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(columns=[column]):
                    pool.parse(f"{path}: {column}", batch.column(0))
    return pool.names


def _plain_ids(ids: U64) -> pa.Array:
    wide = ids.astype(np.uint64, copy=False)
    return pa.array(wide, mask=wide == np.uint64(NO_ID))


def _texts(codes: AnyArray, words: tuple[str, ...] | list[str | None]) -> pa.Array:
    return pa.array(list(words), pa.string()).take(pa.array(codes.astype(np.int64)))


def _copy_tables(snapshot: Snapshot, folder: Path) -> None:
    hidden = hidden_users(snapshot)
    for stem in TABLES:
        source = snapshot.path / "tables" / f"{stem}.parquet"
        if not source.is_file():
            continue
        if stem != "users" or not hidden:
            shutil.copyfile(source, folder / source.name)
            continue
        with pa.parquet.ParquetWriter(folder / source.name, pa.parquet.read_schema(source)) as file:
            for batch in table_batches(snapshot.path / "tables", stem, hidden):
                file.write_batch(batch)
