"""What all converters share: a command line, and a dataset directory that is written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import pyarrow.parquet as pq
import typer

from store.command import command_line, run
from store.errors import InputError
from store.terminal import console, say, table, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa


@contextmanager
def dataset_directory(out: Path) -> Iterator[Path]:
    """Gives a temporary directory beside `out` that takes its place when the block ends without an error.

    On an error the temporary directory is removed and an earlier `out` stays as it was. An existing `out` is replaced
    only if it is empty or a dataset directory (it holds `counts.json`, which every converter writes).

    Raises:
        InputError: `out` holds something that is not a dataset directory.
    """
    if out.exists() and any(out.iterdir()) and not (out / "counts.json").is_file():
        raise InputError(f"{out} is not empty and not a dataset directory (no counts.json): name another one")
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


def write_dataset(
    out: Path, tables: Mapping[str, pa.Table], counts: Mapping[str, int], **more: Mapping[str, object]
) -> None:
    """Writes a dataset directory: the tables as Parquet files, `counts.json`, and further JSON files by name.

    Raises:
        InputError: See `dataset_directory`.
    """
    with dataset_directory(out) as building:
        for name, table in tables.items():
            pq.write_table(table, building / f"{name}.parquet", compression="zstd")
        for name, values in {"counts": counts, **more}.items():
            write_json(building / f"{name}.json", values)


def print_counts(title: str, counts: Mapping[str, int]) -> None:
    """Prints the counts of a converted data set as a table."""
    title = f"{title} in the input contract"
    say(table("what", "count", rows=counts.items(), title=title, right=["count"]))


def require_files(data: Path, names: Iterable[str]) -> None:
    """Checks that the original files are there.

    Raises:
        InputError: One is absent; names it.
    """
    for name in names:
        if not (data / name).is_file():
            raise InputError(f"{data / name} is absent; docs/datasets.md says where the originals are")


def run_converter(
    title: str, convert: Callable[[Path, Path], Mapping[str, int]], installed: Path | None = None
) -> NoReturn:
    """Runs the command line of a converter, `--data FOLDER --out FOLDER`; prints the counts and ends the process.

    Args:
        title: Name of the data set.
        convert: Writes the dataset directory (second argument) of the original files in a folder (first), and gives
            its counts.
        installed: Folder that is converted where `--data` is not given; None = it must be.
    """

    def main(
        out: Annotated[Path, typer.Option(help="Dataset directory to write.")],
        data: Annotated[Path, typer.Option(help="Folder of the original files.")] = installed or ...,
    ) -> None:
        with console().status(f"converting {title}"):
            counts = convert(data, out)
        print_counts(title, counts)

    main.__doc__ = f"Converts {title} to the input contract and prints the counts."
    run(command_line(None, main))
