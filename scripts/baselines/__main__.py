"""Command line of the baselines: `python -m scripts.baselines --data DIR --targets redeem,buy --json FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from scripts.baselines.run import run_baselines
from store.command import JsonOption, command_line, run
from store.terminal import console, show_report, table

if TYPE_CHECKING:
    from rich.table import Table

    from scripts.baselines.run import Result


def main(
    data: Annotated[Path, typer.Option(help="Dataset directory with splits.json.")],
    targets: Annotated[str, typer.Option(help="Names of labels, joined by commas; empty = all.")] = "",
    seeds: Annotated[int, typer.Option(help="Fits per baseline and target.")] = 3,
    json_file: JsonOption = None,
    scores_file: Annotated[
        Path | None, typer.Option("--scores", help="Write every test score here (Parquet), for paired comparisons.")
    ] = None,
) -> None:
    """Trains the baselines on the train split, measures them on the test split, prints AUC and GAUC."""
    wanted = [name for name in targets.split(",") if name]
    with console().status("baselines") as status:
        results = run_baselines(data, wanted, range(seeds), lambda what: status.update(f"baselines: {what}"))
    if scores_file is not None:
        pq.write_table(_scores_table(results), scores_file)
    show_report([_table(results)], [result.as_json() for result in results], json_file)


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


def _table(results: list[Result]) -> Table:
    rows = [
        (
            result.target,
            result.baseline,
            str(result.seed),
            f"{result.auc:.4f}",
            f"{result.gauc:.4f}",
            "" if result.logloss is None else f"{result.logloss:.5f}",
            f"{result.num_positives:,} of {result.num_rows:,}",
        )
        for result in results
    ]
    names = ("target", "baseline", "seed", "AUC", "GAUC", "log loss", "positives")
    return table(*names, rows=rows, title="Test split")


if __name__ == "__main__":
    run(command_line(None, main))
