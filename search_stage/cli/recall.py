"""The command that measures what search finds: `recall`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.study.plot import save_plot
from search_stage.study.report import report_facts, report_markdown
from search_stage.study.study import Settings, measure
from search_stage.study.tables import report_tables
from store.behavior_store import BehaviorStore
from store.command import ConfigOption, IndexOption, JsonOption, PlotOption, StoreOption, output_file
from store.terminal import show_report, steps, table, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from search_stage.study.study import RecallReport


def recall(
    store: StoreOption,
    dataset: Annotated[Path, typer.Option("--input", help="Dataset folder that the store was made of.")],
    index: IndexOption = None,
    config: ConfigOption = None,
    users: Annotated[int, typer.Option(min=1, help="Users in each of the five samples.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the first sample; the others take the next seeds.")] = 0,
    depth: Annotated[
        int, typer.Option(min=1, help="Depth of the categories that worth is learned of; 1 = the top ones.")
    ] = 1,
    target: Annotated[
        str | None, typer.Option(help="Whose labels; default: the target with the most positives.")
    ] = None,
    json_file: JsonOption = None,
    report: Annotated[Path | None, output_file("--report", "File to write the tables to, as Markdown.")] = None,
    plot: PlotOption = None,
) -> None:
    """Measure on a sample of users what hard and soft search find, and what of it is worth finding."""
    loaded = SearchConfig.load(config)
    settings = Settings(num_users=users, seed=seed, depth=depth, target=target)
    command = shlex.join(("lookback-search", *sys.argv[1:]))
    with BehaviorStore.open(store) as opened, steps() as progress:
        generation = IndexGeneration.open(index) if index is not None else None
        measured = measure(opened, generation, loaded, dataset, settings, progress)
    show_report(_parts(measured, command), {"command": command, **asdict(measured)}, json_file)
    if plot is not None:
        save_plot(measured, plot)
    if report is not None:
        write_text(report, report_markdown(measured, command, plot.name if plot is not None else None))


def _parts(measured: RecallReport, command: str) -> Iterator[Table | str]:
    yield from report_facts(measured, command)
    for each in report_tables(measured):
        yield table(*each.columns, rows=each.rows, title=each.title, caption=each.note)
