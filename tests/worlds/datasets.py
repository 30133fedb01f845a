"""Small datasets in the input contract, and stores made of them."""

from __future__ import annotations

import csv
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from store import ingest

Rows = list[dict[str, Any]]

NO_ROWS = {
    "behaviors": ("user", "item", "category", "domain", "action", "timestamp_ms"),
    "taxonomy": ("category", "parent"),
}


def write_table(folder: Path, stem: str, rows: Rows, *, suffix: str = ".parquet") -> Path:
    """Writes rows as one file of the contract; a missing key is a missing value, a list becomes `a|b` in CSV.

    A column of lists is `name[]` there, but for `covers`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row)) or list(NO_ROWS[stem])
    path = folder / f"{stem}{suffix}"
    if suffix == ".parquet":
        pa.parquet.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            lists = {name for row in rows for name, value in row.items() if isinstance(value, list)} - {"covers"}
            writer.writerow([f"{name}[]" if name in lists else name for name in names])
            writer.writerows([_csv_value(row.get(name)) for name in names] for row in rows)
    return path


def _csv_value(value: Any) -> Any:
    return "|".join(map(str, value)) if isinstance(value, list) else value


def write_dataset(folder: Path, *, suffix: str = ".parquet", **tables: Rows | None) -> Path:
    """Writes every table that is given: `behaviors`, `taxonomy`, `bridges`, `items`, `users`, `impressions`."""
    for stem, rows in tables.items():
        if rows is not None:
            write_table(folder, stem, rows, suffix=suffix)
    return folder


def build_store(
    folder: Path,
    *,
    behaviors: Rows,
    taxonomy: Rows,
    bridges: Rows | None = None,
    items: Rows | None = None,
    users: Rows | None = None,
    suffix: str = ".parquet",
) -> Path:
    """Writes a dataset under `folder`, ingests it and gives the root of the store.

    Rows are dicts by column name, e.g. `dict(user=1, item=7, category=3, domain="ads", action="click",
    timestamp_ms=5)`; `scene` and `event_id` may be left out. Called again with the same folder it publishes a second
    generation, of the new rows only.
    """
    tables = {"behaviors": behaviors, "taxonomy": taxonomy, "bridges": bridges, "items": items, "users": users}
    dataset = write_dataset(folder / "dataset", suffix=suffix, **tables)
    ingest(dataset, folder / "store", replace=True)
    return folder / "store"


def bits_of_structure(data: bytes) -> list[int]:
    """Gives the bits of an LMDB file that are no keys, values or gaps: heads of pages and nodes, places, meta pages."""
    places = [page + at for page in (0, 4096) for at in range(16 + 136)]
    for page in range(8192, len(data), 4096):
        kind, lower = struct.unpack_from("<HH", data, page + 10)
        if kind not in (1, 2) or not 16 <= lower <= 4096:
            places += range(page, page + 24)
            continue
        places += range(page, page + lower)
        for (place,) in struct.iter_unpack("<H", data[page + 16 : page + lower]):
            places += range(page + place, page + place + 8)
    return [8 * place + bit for place in places for bit in range(8)]
