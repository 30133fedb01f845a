"""Files of a dataset folder as batches of Arrow columns that know their lines."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from store.dataset.bad_rows import RowCheck
from store.dataset.batch import Batch
from store.dataset.csv_reader import read_csv
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from store.dataset.bad_rows import BadRows

SUFFIXES = (".parquet", ".csv", ".csv.gz")

LIST_ENDING = "[]"
"""A column of a CSV file whose name ends like this holds lists, the values of one joined by a vertical bar."""
_PARQUET_BATCH_ROWS = 1 << 20
_CSV_BYTES_PER_ROW = 40
_GZIP_BYTES_PER_ROW = 10
_PANDAS_INDEX = re.compile(r"__index_level_[0-9]+__|Unnamed: [0-9]+")
_UNREADABLE = (OSError, EOFError, zlib.error, pa.ArrowException)


def find_files(folder: Path, stem: str, *, many: bool = False) -> list[Path]:
    """Gives the files of one table, by name: `stem.parquet`, `.csv` or `.csv.gz`; with `many`, `stem*` of those.

    Raises:
        InputError: The folder does not exist, a table that is one file has several, or a folder has a table's name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of the dataset")
    names = [path for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIXES)]
    if many:
        found = [path for path in names if path.name.startswith(stem)]
    else:
        found = [path for path in names if path.name in {stem + suffix for suffix in SUFFIXES}]
    for path in found:
        if path.is_dir():
            raise InputError(
                f"{path}: is a folder, a table is a file"
                + (f"; move its files into {folder}, each named {stem}*.parquet" if many else "; write it as one file")
            )
    if len(found) > 1 and not many:
        raise InputError(f"{folder}: {' and '.join(path.name for path in found)} hold one table; keep one of them")
    return found


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as exc:
        raise InputError(f"{path}: cannot be read ({exc}); write the file again") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroups:
    """A range of a Parquet file's row groups."""

    first: int
    stop: int
    first_row: int
    """Number of its first row in the file, as in `BadRow`."""


def row_groups_of(path: Path, rows: int) -> list[RowGroups | None]:
    """Cuts a file into ranges of about `rows` rows or more; a CSV file stays whole, which is None.

    Raises:
        InputError: It is no Parquet file, though its name says so.
    """
    if not path.name.endswith(".parquet"):
        return [None]
    with _reading(path), pa.parquet.ParquetFile(path) as file:
        counts = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
    out: list[RowGroups | None] = []
    first = first_row = taken = 0
    for at, count in enumerate(counts):
        taken += count
        if taken >= rows or at == len(counts) - 1:
            out.append(RowGroups(first=first, stop=at + 1, first_row=1 + first_row))
            first, first_row, taken = at + 1, first_row + taken, 0
    return out or [None]


def empty_batch(path: Path) -> Batch:
    """Gives a Parquet file's columns without a row: their types.

    Raises:
        InputError: It is no Parquet file, though its name says so.
    """
    with _reading(path):
        schema = pa.parquet.read_schema(path)
    columns = {field.name: _plain(pa.array([], field.type), keep_dictionary=False) for field in schema}
    none = np.empty(0, np.int64)
    return Batch(file=path.name, columns=columns, lines=none, check=RowCheck(0), is_text=False, fraction=1.0)


def estimated_rows(path: Path) -> int:
    """Gives about how many rows a file has: exactly for Parquet, by its size for CSV.

    Raises:
        InputError: As `row_groups_of`.
    """
    if path.name.endswith(".parquet"):
        with _reading(path):
            return int(pa.parquet.read_metadata(path).num_rows)
    return path.stat().st_size // (_GZIP_BYTES_PER_ROW if path.name.endswith(".gz") else _CSV_BYTES_PER_ROW)


def read_batches(
    path: Path,
    required: set[str],
    optional: set[str],
    bad_rows: BadRows,
    *,
    free: bool = False,
    words: Collection[str] = (),
    part: RowGroups | None = None,
    batch_rows: int = _PARQUET_BATCH_ROWS,
) -> Iterator[Batch]:
    """Reads a file in batches, at least one.

    Args:
        path: A file named as `find_files` gives them.
        required: Columns it must have.
        optional: Columns it may have.
        bad_rows: Takes lines that are no rows.
        free: Allow further columns.
        words: Columns of few distinct strings: they may come as dictionaries, which spares making the strings.
        part: Which row groups of a Parquet file; None = all.
        batch_rows: Rows of a Parquet file to hold at a time.

    Raises:
        InputError: It is no such file, or lacks a column, or has one that is not allowed.
        TooManyBadRowsError: See `BadRows`.
    """
    with_lists = free and not path.name.endswith(".parquet")

    def check(names: list[str]) -> None:
        names = [name.removesuffix(LIST_ENDING) for name in names] if with_lists else names
        missing = required - set(names)
        unknown = set(names) - required - optional
        if missing:
            raise InputError(f"{path}: has no column {', '.join(sorted(missing))}; see docs/data.md")
        if unknown and not free:
            allowed = ", ".join(sorted(required | optional))
            raise InputError(f"{path}: unknown column {', '.join(sorted(unknown))}; allowed are {allowed}")
        _check_names(path, names)

    with _reading(path):
        if path.name.endswith(".parquet"):
            yield from _read_parquet(path, check, words, part, batch_rows)
        else:
            batches = read_csv(path, check, bad_rows)
            yield from map(_split_lists, batches) if with_lists else batches


def _check_names(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1 and name.strip()})
    if twice:
        raise InputError(f"{path}: has two columns of one name: {', '.join(twice)}")
    for number, name in enumerate(names, start=1):
        what = "has no name" if not name.strip() else f"is {name!r}" if _PANDAS_INDEX.fullmatch(name) else ""
        if what:
            raise InputError(f"{path}: column {number} {what}; if it is the index that pandas adds, write index=False")


def _split_lists(batch: Batch) -> Batch:
    """Makes lists of the columns whose name says that they hold some."""
    columns = {
        name.removesuffix(LIST_ENDING): pc.split_pattern(column, "|") if name.endswith(LIST_ENDING) else column
        for name, column in batch.columns.items()
    }
    return replace(batch, columns=columns)


def read_table(
    folder: Path, stem: str, required: set[str], optional: set[str], bad_rows: BadRows, *, free: bool = False
) -> Batch | None:
    """Reads a table that is one file, whole; None when there is no such file. Arguments, errors: `read_batches`."""
    files = find_files(folder, stem)
    if not files:
        return None
    batches = list(read_batches(files[0], required, optional, bad_rows, free=free))
    names = batches[0].columns
    return Batch(
        file=files[0].name,
        columns={name: pa.concat_arrays([batch.columns[name] for batch in batches]) for name in names},
        lines=np.concatenate([batch.lines for batch in batches]),
        check=RowCheck.join([batch.check for batch in batches]),
        is_text=batches[0].is_text,
        fraction=1.0,
    )


def _read_parquet(
    path: Path, check: Callable[[list[str]], None], words: Collection[str], part: RowGroups | None, batch_rows: int
) -> Iterator[Batch]:
    metadata = pa.parquet.read_metadata(path)
    found = [word for word in words if word in metadata.schema.names]
    with pa.parquet.ParquetFile(path, metadata=metadata, read_dictionary=found) as file:
        check(file.schema_arrow.names)
        part = part or RowGroups(first=0, stop=file.metadata.num_row_groups, first_row=1)
        groups = range(part.first, part.stop)
        start = part.first_row
        total = max(sum(file.metadata.row_group(at).num_rows for at in groups), 1)
        empty = [pa.RecordBatch.from_pylist([], schema=file.schema_arrow)] if file.metadata.num_rows == 0 else []
        batches = file.iter_batches(batch_size=batch_rows, row_groups=groups, use_threads=False)
        for batch in chain(empty, batches):
            columns = {
                name: _plain(column, keep_dictionary=name in words)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }
            yield Batch(
                file=path.name,
                columns=columns,
                lines=np.arange(start, start + batch.num_rows),
                check=RowCheck(batch.num_rows),
                is_text=False,
                fraction=(start - part.first_row + batch.num_rows) / total,
            )
            start += batch.num_rows


def _plain(column: pa.Array, *, keep_dictionary: bool) -> pa.Array:
    """Gives a column in the plainest of the types that hold the same: newer writers have several for text and lists."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if keep_dictionary and pa.types.is_string(kind.value_type):
            return column
        return _plain(column.dictionary_decode(), keep_dictionary=False)
    if _is_other_text(kind):
        return column.cast(pa.string())
    if pa.types.is_list(kind) or _is_other_list(kind):
        values = kind.value_type
        plain = pa.string() if _is_other_text(values) or pa.types.is_dictionary(values) else values
        return column if kind == pa.list_(plain) else column.cast(pa.list_(plain))
    return column


def _is_other_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_other_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
