"""What all converters share: a command line, and a dataset directory that is written whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa


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


def write_dataset(
    out: Path, tables: Mapping[str, pa.Table], counts: Mapping[str, int], **more: Mapping[str, object]
) -> None:
    """Writes a dataset directory: the tables as Parquet files, `counts.json`, and further JSON files by name.

    Raises:
        FileExistsError: See `dataset_directory`.
    """
    with dataset_directory(out) as building:
        for name, table in tables.items():
            pq.write_table(table, building / f"{name}.parquet", compression="zstd")
        for name, values in {"counts": counts, **more}.items():
            write_json(building / f"{name}.json", values)


def print_counts(title: str, counts: Mapping[str, int], console: Console) -> None:
    """Prints the counts of a converted data set as a table."""
    table = Table("what", "count", title=f"{title} in the input contract")
    table.columns[1].justify = "right"
    for name, value in counts.items():
        table.add_row(name, f"{value:,}")
    console.print(table)


def require_files(data: Path, names: Iterable[str]) -> None:
    """Checks that the original files are there.

    Raises:
        FileNotFoundError: One is absent; names it.
    """
    for name in names:
        if not (data / name).is_file():
            raise FileNotFoundError(f"{data / name} is absent; docs/datasets.md says where the originals are")


def converter_app(title: str, convert: Callable[[Path, Path], Mapping[str, int]]) -> typer.Typer:
    """Gives the command line of a converter: `--data FOLDER --out FOLDER`; prints the counts.

    Args:
        title: Name of the data set.
        convert: Writes the dataset directory (second argument) of the original files in a folder (first), and gives
            its counts. May raise FileNotFoundError and ValueError for the originals, FileExistsError for the output.
    """
    app = typer.Typer(add_completion=False)

    @app.command(help=f"Converts {title} to the input contract and prints the counts.")
    def main(
        data: Annotated[Path, typer.Option(help="Folder of the original files.")],
        out: Annotated[Path, typer.Option(help="Dataset directory to write.")],
    ) -> None:
        console = Console()
        try:
            with console.status(f"converting {title}"):
                counts = convert(data, out)
        except FileExistsError as error:
            raise typer.BadParameter(str(error), param_hint="--out") from error
        except (FileNotFoundError, ValueError) as error:
            raise typer.BadParameter(str(error), param_hint="--data") from error
        print_counts(title, counts, console)

    return app
