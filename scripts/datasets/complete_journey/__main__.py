"""Command line of the converter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scripts.datasets.complete_journey.convert import TITLE, convert
from scripts.datasets.output import print_counts


def main(
    data: Annotated[Path, typer.Option(help="Folder of the original CSV files.")],
    out: Annotated[Path, typer.Option(help="Dataset directory to write.")],
) -> None:
    """Converts the Complete Journey files to the input contract and prints the counts."""
    console = Console()
    try:
        with console.status("converting Complete Journey"):
            counts = convert(data, out)
    except FileExistsError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error), param_hint="--data") from error
    print_counts(TITLE, counts, console)


if __name__ == "__main__":
    typer.run(main)
