"""Refuses tables that would take rows away: a table of the input takes the place of the store's, all of it."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from store.dataset.readers import find_files
from store.errors import InputError
from store.types import parse_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_KEYS = {"taxonomy": ("domain", "category"), "bridges": ("domain", "category"), "items": ("item",), "users": ("user",)}
"""Columns that name a row of each table."""


def refuse_smaller(new: Mapping[str, pa.Table], folders: Collection[Path], old: Path, gone: Collection[int]) -> None:
    """Checks that no table of the input lacks a row of the store's.

    Args:
        new: Tables as they were accepted, by name.
        folders: Where the input is; a table that stands in none of them is the store's own.
        old: `tables` of the store's generation.
        gone: Users who are deleted, and may be absent.

    Raises:
        InputError: One does; it names the table and the first rows.
    """
    for stem, keys in _KEYS.items():
        is_given = any(find_files(folder, stem) for folder in folders)
        path = old / f"{stem}.parquet"
        if not is_given or not path.is_file():
            continue
        had = _keys_of(pa.parquet.read_table(path, columns=list(keys)), keys)
        rows = had.join(_keys_of(new[stem], keys), keys=list(keys), join_type="left anti").to_pylist()
        lost = [row for row in rows if stem != "users" or parse_id(row["user"]) not in gone]
        if lost:
            first = ", ".join(sorted("/".join(filter(None, row.values())) for row in lost)[:3])
            raise InputError(
                f"{stem}: lacks {len(lost):,} of the {len(had):,} rows of the store's table, such as {first}. A table "
                "takes the place of the store's: give all of it, or --shrink-tables to let these rows go"
            )


def _keys_of(table: pa.Table, keys: Collection[str]) -> pa.Table:
    return pa.table({key: pc.fill_null(table[key].combine_chunks(), "") for key in keys})
