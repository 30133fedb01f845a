"""The four tables of a dataset: finds them in one folder or the next, and keeps what was accepted for later builds.

A store keeps its tables in one form, whatever files they came from, so that a rebuild needs no dataset folder and an
export gives everything back: ids, words and categorical fields as strings, numeric fields as float32, `covers` and
multi-valued fields as lists of strings; every column that the contract names is there, side-info fields behind them by
name.
"""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from store.dataset.parsing import is_text
from store.dataset.readers import find_files, read_table
from store.errors import translate_os_errors
from store.fields import NUMBER, type_of
from store.lists import Lists

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from store.dataset.bad_rows import BadRows
    from store.dataset.batch import Batch
    from store.fields import FieldColumn
    from store.types import Bool

TABLE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "taxonomy": ("category", "parent", "name", "domain"),
    "bridges": ("domain", "category", "node"),
    "items": ("item", "category", "name", "domain", "covers"),
    "users": ("user",),
}
"""Columns of each table, the required ones first; items and users may have side-info fields too."""

_STRINGS = pa.list_(pa.string())


class TableReader:
    """Reads tables, each from the first of some folders that has it; remembers the accepted rows."""

    def __init__(self, folders: Sequence[Path], bad_rows: BadRows) -> None:
        """Prepares to read.

        Args:
            folders: Where to look, the first one first.
            bad_rows: Takes the rows that are refused.
        """
        self._folders = folders
        self.bad_rows = bad_rows
        self._kept: dict[str, pa.Table] = {}

    @property
    def folder(self) -> Path:
        """The first folder, for messages."""
        return self._folders[0]

    @property
    def kept(self) -> Mapping[str, pa.Table]:
        """The accepted rows of the tables that were read, by name; columns of ids as text."""
        return self._kept

    def read(self, stem: str, required: set[str], *, free: bool = False) -> Batch | None:
        """Reads a table whole; None where no folder has it. Arguments and errors: `readers.read_batches`."""
        for folder in self._folders:
            if find_files(folder, stem):
                optional = set(TABLE_COLUMNS[stem]) - required
                return read_table(folder, stem, required, optional, self.bad_rows, free=free)
        return None

    def keep(self, stem: str, batch: Batch, good: Bool, fields: Mapping[str, FieldColumn] | None = None) -> None:
        """Remembers the accepted rows of a table.

        Args:
            stem: Its name.
            batch: All rows.
            good: Which of them were accepted. (N,)
            fields: The side-info fields as they were understood, each (N,).
        """
        columns = {name: _as_text(batch, name) for name in TABLE_COLUMNS[stem]}
        for name, values in (fields or {}).items():
            if isinstance(values, Lists):
                columns[name] = _as_lists(batch.columns[name])
                continue
            given = type_of(values).given(values)
            if NUMBER.fits(values):
                columns[name] = pa.array(values, mask=~given)
            else:  # a value that is no id was refused, an empty one is missing
                columns[name] = pc.if_else(pa.array(given), _as_text(batch, name), None)
        self._kept[stem] = pa.table(columns).filter(pa.array(good))

    def save(self, folder: Path) -> None:
        """Writes the remembered tables as Parquet files.

        Raises:
            StoreIOError: The disk is full, or not writable.
        """
        with translate_os_errors(f"{folder}: cannot write"):
            folder.mkdir(parents=True)
            for stem, table in self._kept.items():
                pa.parquet.write_table(table, folder / f"{stem}.parquet")


def _as_text(batch: Batch, name: str) -> pa.Array:
    if name == "covers":
        return _covers(batch)
    if name not in batch.columns:
        return pa.nulls(len(batch), pa.string())
    return _empty_as_null(batch.columns[name].cast(pa.string()))


def _covers(batch: Batch) -> pa.Array:
    column = batch.columns.get("covers")
    if column is None or pa.types.is_null(column.type):
        return pa.nulls(len(batch), _STRINGS)
    return _as_lists(pc.split_pattern(column, "|") if is_text(column.type) else column)


def _as_lists(column: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(pc.list_value_length(column), 0), None, column.cast(_STRINGS))


def _empty_as_null(column: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(column, ""), None, column)
