"""Command line of the baselines: `python -m scripts.baselines --data DIR --targets redeem,buy --json FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from model_stage.errors import ConfigError
from scripts.baselines.run import run_baselines
from store.errors import InputError

if TYPE_CHECKING:
    from scripts.baselines.run import Result


def main(
    data: Annotated[Path, typer.Option(help="Dataset directory with splits.json.")],
    targets: Annotated[str, typer.Option(help="Names of labels, joined by commas; empty = all.")] = "",
    seeds: Annotated[int, typer.Option(help="Fits per baseline and target.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    scores_file: Annotated[
        Path | None, typer.Option("--scores", help="Write every test score here (Parquet), for paired comparisons.")
    ] = None,
) -> None:
    """Trains the baselines on the train split, measures them on the test split, prints AUC and GAUC."""
    console = Console()
    try:
        with console.status("baselines") as status:
            wanted = [name for name in targets.split(",") if name]
            results = run_baselines(data, wanted, range(seeds), lambda what: status.update(f"baselines: {what}"))
    except (InputError, ConfigError) as error:
        raise typer.BadParameter(str(error), param_hint="--data") from error
    except KeyError as error:
        raise typer.BadParameter(
            f"no column label_{error.args[0]} in the impressions", param_hint="--targets"
        ) from error
    if json_file is not None:
        json_file.write_text(json.dumps([result.as_json() for result in results], indent=2) + "\n", encoding="utf-8")
    if scores_file is not None:
        pq.write_table(_scores_table(results), scores_file)
    _print(results, console)


def _scores_table(results: list[Result]) -> pa.Table:
    return pa.concat_tables(
        [
            pa.table(
                {
                    "baseline": [result.baseline] * result.num_rows,
                    "target": [result.target] * result.num_rows,
                    "seed": pa.array([result.seed] * result.num_rows, pa.int64()),
                    "row": result.rows,
                    "score": result.scores,
                }
            )
            for result in results
        ]
    )


def _print(results: list[Result], console: Console) -> None:
    table = Table("target", "baseline", "seed", "AUC", "GAUC", "log loss", "positives", title="Test split")
    for result in results:
        loss = "" if result.logloss is None else f"{result.logloss:.5f}"
        table.add_row(
            result.target,
            result.baseline,
            str(result.seed),
            f"{result.auc:.4f}",
            f"{result.gauc:.4f}",
            loss,
            f"{result.num_positives:,} of {result.num_rows:,}",
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
