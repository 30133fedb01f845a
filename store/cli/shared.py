"""What the commands share: options, consoles, tables, progress bars, exit statuses."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from store.errors import InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from store.building.options import Progress as BuildProgress

console = Console(soft_wrap=True)
"""For what was asked for."""
errors = Console(stderr=True, soft_wrap=True)
"""For what went wrong, and for progress."""

StoreOption = Annotated[Path, typer.Option("--store", help="Root of the store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

OPERATOR = 1
"""Exit status: the operator must act."""
CALLER = 2
"""Exit status: whoever gave the input must act."""


def run(app: typer.Typer) -> None:
    """Runs a command line and turns the store's errors into one line and an exit status."""
    try:
        app(standalone_mode=True)
    except InputError as exc:
        _fail(exc, CALLER)
    except StoreError as exc:
        _fail(exc, OPERATOR)


def _fail(exc: StoreError, status: int) -> None:
    errors.print(f"lookback-store: {exc}", markup=False, highlight=False)
    sys.exit(status)


@contextmanager
def bar(step: str) -> Iterator[Callable[[float], None]]:
    """Gives a callback that draws how far one step has come."""
    with _bars() as bars:
        task = bars.add_task(step, total=1.0, rows="")
        yield lambda done: bars.update(task, completed=done)


@contextmanager
def steps() -> Iterator[BuildProgress]:
    """Gives a callback that draws one bar per step of a build, with its rows, its rate and the time left."""
    with _bars() as bars:
        tasks: dict[str, TaskID] = {}

        def update(step: str, done: float, rows: int = 0) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0, rows="")
            elapsed_s = bars.tasks[bars.task_ids.index(tasks[step])].elapsed
            text = f"{rows:,} rows, {rows / elapsed_s:,.0f} a second" if rows and elapsed_s else ""
            bars.update(tasks[step], completed=done, rows=text)

        yield update


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


def facts(name: str, value: str) -> Table:
    """Gives a table of names and values, with its first row."""
    table = Table(show_header=False, box=None)
    add_row(table, name, value)
    return table


def add_row(table: Table, *cells: str) -> None:
    """Adds a row of plain text: a name with square brackets is no markup."""
    table.add_row(*map(escape, cells))


def say(text: str) -> None:
    """Prints a line of plain text."""
    console.print(text, markup=False)


def print_json(value: Any) -> None:  # noqa: ANN401 (a dataclass, or what json takes)
    """Prints a dataclass or a dict as one JSON object."""
    data = value if isinstance(value, dict) else asdict(value)
    console.print(json.dumps(data, indent=2, ensure_ascii=False), markup=False, highlight=False)


def time_text(timestamp_ms: int) -> str:
    """Gives a time as text, UTC, to the second."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def size_text(size_bytes: int) -> str:
    """Gives a number of bytes as text."""
    size, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"


def age_text(age_ms: int) -> str:
    """Gives a length of time as text, in its largest unit."""
    seconds = abs(age_ms) / 1000
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} seconds"


def share_text(part: int, total: int) -> str:
    """Gives a part of a whole in percent."""
    return f"{part / max(total, 1):.2%}"
