"""CSV files as batches of Arrow columns that know their physical lines, whatever the quotes."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import csv
import gzip
import io
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from store.dataset.bad_rows import RowCheck
from store.dataset.batch import Batch
from store.errors import BadRow, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from store.dataset.bad_rows import BadRows
    from store.types import I64

_CHUNK_BYTES = 1 << 25
_LONE_RETURN = "has carriage returns alone at line ends, as old Macs write them; end lines with \\n or \\r\\n"
_OTHER_FORMATS = (
    (b"\x1f\x8b", "compressed by gzip", "name it .csv.gz"),
    (b"PAR1", "a Parquet file", "name it .parquet"),
    (b"PK\x03\x04", "a zip archive", "unpack it, or save a spreadsheet as CSV"),
    (b"\xff\xfe", "text in UTF-16", "write it in UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "write it in UTF-8"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it, or compress it by gzip"),
    (b"BZh", "compressed by bzip2", "unpack it, or compress it by gzip"),
)
"""How files begin that are taken for CSV text, what they are, and what to do."""


def read_csv(path: Path, check: Callable[[list[str]], None], bad_rows: BadRows) -> Iterator[Batch]:
    """Reads a CSV file, plain or gzip, in batches, at least one.

    Args:
        path: The file.
        check: Judges the names of the columns.
        bad_rows: Takes lines that are no rows.

    Raises:
        InputError: It is empty or of another format, or holds a quote that is never closed or a line end of old Macs.
        TooManyBadRowsError: See `BadRows`.
    """
    total = max(path.stat().st_size, 1)
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        file = stack.enter_context(gzip.GzipFile(fileobj=raw)) if path.name.endswith(".gz") else raw
        names = _header(path, file.readline(_CHUNK_BYTES))
        check(names)
        first_line = 2
        for chunk in _chunks(file):
            yield _read_chunk(path, names, chunk, first_line, bad_rows, raw.tell() / total)
            first_line += chunk.count(b"\n")


def _header(path: Path, line: bytes) -> list[str]:
    for start, what, advice in _OTHER_FORMATS:
        if line.startswith(start):
            raise InputError(f"{path}: is {what} and no CSV text; {advice}")
    text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if "\r" in text:
        raise InputError(f"{path}: {_LONE_RETURN}")
    try:
        names = next(csv.reader([text]), [])
    except csv.Error as exc:
        raise InputError(f"{path}: the first line must name the columns ({exc})") from exc
    if not names:
        raise InputError(f"{path}: is empty; the first line must name the columns")
    return names


def _chunks(file: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    """Cuts a file at line ends, so that a stray quote can swallow no more than one chunk; at least one chunk."""
    rest = b""
    is_empty = True
    while block := file.read(_CHUNK_BYTES):
        end = block.rfind(b"\n") + 1
        if end:
            is_empty = False
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
    if rest:
        yield rest + b"\n"
    elif is_empty:
        yield b"\n"


def _read_chunk(
    path: Path, names: list[str], chunk: bytes, first_line: int, bad_rows: BadRows, fraction: float
) -> Batch:
    invalid: list[tuple[int, int, str]] = []

    def note(row: Any) -> str:  # noqa: ANN401 (pyarrow has no types)
        invalid.append((row.number, row.actual_columns, row.text))
        return "skip"

    table = pa.csv.read_csv(
        io.BytesIO(chunk),
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=len(chunk) + 1, column_names=names),
        parse_options=pa.csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=note),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=True, null_values=[""]
        ),
    )
    raw = {name: table.column(name).combine_chunks() for name in names}
    breaks = np.zeros(table.num_rows, np.int64)
    if chunk.count(b"\n") > table.num_rows + len(invalid):
        for column in raw.values():
            breaks += pc.fill_null(pc.count_substring(column, "\n"), 0).to_numpy()
    good_lines, invalid_lines = _lines(breaks, invalid, first_line)
    if len(breaks) + int(breaks.sum()) + sum(1 + text.count("\n") for _, _, text in invalid) != chunk.count(b"\n"):
        last_line = first_line + chunk.count(b"\n") - 1
        if re.search(rb"\r(?!\n)", chunk):
            raise InputError(f"{path}: lines {first_line} to {last_line}: {_LONE_RETURN}")
        raise InputError(f"{path}: lines {first_line} to {last_line} hold a quote that is never closed; correct them")
    for line, (_, actual, text) in zip(invalid_lines, invalid, strict=True):
        # A stray quote makes one row of several lines: none of them can be trusted, so each counts.
        for offset in range(1 + text.count("\n")):
            reason = f"expected {len(names)} values, found {actual}" + (" (a quote is not closed)" if offset else "")
            bad_rows.add(BadRow(file=path.name, line=line + offset, reason=reason))
    check = RowCheck(table.num_rows)
    check.refuse(breaks > 0, lambda row: f"a value runs over {breaks[row] + 1} lines (a quote is not closed?)")
    columns = {name: _decode(name, column, check) for name, column in raw.items()}
    return _without_empty_lines(columns, good_lines, check, path.name, fraction)


def _lines(breaks: I64, invalid: list[tuple[int, int, str]], first_line: int) -> tuple[I64, list[int]]:
    """Gives the first line of each row that was read and of each that was not."""
    is_invalid = np.zeros(len(breaks) + len(invalid), np.bool_)
    is_invalid[np.array([number - 1 for number, _, _ in invalid], np.int64)] = True
    height = np.ones(len(is_invalid), np.int64)
    height[is_invalid] += np.array([text.count("\n") for _, _, text in invalid], np.int64)
    height[~is_invalid] += breaks
    line = first_line + np.cumsum(height) - height
    return line[~is_invalid], line[is_invalid].tolist()


def _decode(name: str, column: pa.Array, check: RowCheck) -> pa.Array:
    """Gives bytes as text; a row with other bytes is refused and its value null."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        values = column.to_pylist()
        valid = np.array([value is None or _is_text(value) for value in values])
        check.refuse(~valid, lambda row: f"{name}: {values[row]!r} is not UTF-8")
        return pc.if_else(pa.array(valid), column, None).cast(pa.string())


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_empty_lines(
    columns: dict[str, pa.Array], lines: I64, check: RowCheck, file: str, fraction: float
) -> Batch:
    empty = np.logical_and.reduce([column.is_null().to_numpy(zero_copy_only=False) for column in columns.values()])
    empty &= check.good()
    if empty.any():
        keep = ~empty
        columns = {name: column.filter(pa.array(keep)) for name, column in columns.items()}
        lines = lines[keep]
        check = check.only(keep)
    return Batch(file=file, columns=columns, lines=lines, check=check, is_text=True, fraction=fraction)
