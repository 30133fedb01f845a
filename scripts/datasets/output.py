"""Writes a dataset directory whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa
    from rich.console import Console


@contextmanager
def dataset_directory(out: Path) -> Iterator[Path]:
    """Gives a temporary directory beside `out` that takes its place when the block ends without an error.

    On an error the temporary directory is removed and an earlier `out` stays as it was. An existing `out` is replaced
    only if it is empty or a dataset directory (it holds `counts.json`, which every converter writes).

    Raises:
        FileExistsError: `out` holds something that is not a dataset directory.
    """
    if out.exists() and any(out.iterdir()) and not (out / "counts.json").is_file():
        raise FileExistsError(f"{out} is not empty and not a dataset directory (no counts.json): name another one")
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield building
        building.chmod(0o755)
        shutil.rmtree(out, ignore_errors=True)
        building.rename(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Writes a JSON object with stable formatting."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def write_dataset(out: Path, tables: Mapping[str, pa.Table], counts: Mapping[str, int]) -> None:
    """Writes a dataset directory without impressions: the tables as Parquet files, and `counts.json`.

    Raises:
        FileExistsError: See `dataset_directory`.
    """
    with dataset_directory(out) as building:
        for name, table in tables.items():
            pq.write_table(table, building / f"{name}.parquet", compression="zstd")
        write_json(building / "counts.json", counts)


def print_counts(title: str, counts: Mapping[str, int], console: Console) -> None:
    """Prints the counts of a conversion as a table."""
    table = Table("what", "count", title=title)
    table.columns[1].justify = "right"
    for name, value in counts.items():
        table.add_row(name, f"{value:,}")
    console.print(table)
