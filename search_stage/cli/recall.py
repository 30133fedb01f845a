"""The command that measures what search finds: `recall`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.study.plot import save_plot
from search_stage.study.report import report_facts, report_json, report_markdown
from search_stage.study.study import Settings, measure
from search_stage.study.tables import report_tables
from store.behavior_store import BehaviorStore
from store.cli.shared import add_row, say, steps
from store.plotting import check_matplotlib
from store.screen import screen


def recall_command(
    store: Annotated[Path, typer.Option("--store", help="Root of the behavior store.")],
    dataset: Annotated[Path, typer.Option("--input", help="Dataset folder that the store was made of.")],
    index: Annotated[Path | None, typer.Option("--index", help="Root of the index; without it soft search is off.")] = (
        None
    ),
    config: Annotated[Path | None, typer.Option("--config", help="search.yaml; default: the packaged one.")] = None,
    users: Annotated[int, typer.Option(min=1, help="Users in each of the five samples.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the first sample; the others take the next seeds.")] = 0,
    depth: Annotated[
        int, typer.Option(min=1, help="Depth of the categories that worth is learned of; 1 = the top ones.")
    ] = 1,
    target: Annotated[
        str | None, typer.Option(help="Whose labels; default: the target with the most positives.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="File to write all numbers to.")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="File to write the tables to, as Markdown.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="PNG file to draw; needs the extra `report` to be installed.")
    ] = None,
) -> None:
    """Measure on a sample of users what hard and soft search find, and what of it is worth finding."""
    if plot is not None:
        check_matplotlib()
    loaded = SearchConfig.load(config)
    settings = Settings(num_users=users, seed=seed, depth=depth, target=target)
    command = shlex.join(("lookback-search", *sys.argv[1:]))
    with BehaviorStore.open(store) as opened, steps() as progress:
        generation = IndexGeneration.open(index) if index is not None else None
        measured = measure(opened, generation, loaded, dataset, settings, progress)
    console = screen(soft_wrap=True)
    for paragraph in report_facts(measured, command):
        say(paragraph)
    for each in report_tables(measured):
        table = Table(*each.columns, title=each.title, caption=each.note, title_justify="left", caption_justify="left")
        for row in each.rows:
            add_row(table, *row)
        console.print(table)
    if json is not None:
        json.write_text(report_json(measured, command), encoding="utf-8")
    if plot is not None:
        save_plot(measured, plot)
    if report is not None:
        name = plot.name if plot is not None else None
        report.write_text(report_markdown(measured, command, name), encoding="utf-8")
