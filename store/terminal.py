"""What commands print: tables, lines, progress bars, JSON, plots; and the one line with which a known error ends them.

Knows no command line, so that a worker of a server ends as a command does without loading one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json
from rich.console import Console
from rich.table import Table
from rich.text import Text

from store.errors import LookbackError, StoreError, translate_os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from rich.console import RenderableType
    from rich.progress import Progress, TaskID

    Part = RenderableType | Mapping[str, str | int]
    """Of what is printed: text, a table, or values by name."""

STDOUT: Final = Path("-")
"""Where a file is asked for: standard output."""
_PIPE_WIDTH = 160
"""Columns of a file or a pipe, where `COLUMNS` does not say."""


class MatplotlibMissingError(StoreError):
    """Pictures need matplotlib; says what to install. No server raises it."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Ends the process on an error of ours, with one line; exit status 2 = the caller must act, 1 = the operator."""
    try:
        yield
    except LookbackError as error:
        console(stderr=True).print(f"error: {error}", style="red", soft_wrap=True)
        sys.exit(error.exit_status)


def console(*, stderr: bool = False) -> Console:
    """Gives a console that prints text as it is: as wide as the terminal, or wide enough for a table in a pipe."""
    plain = Console(stderr=stderr, markup=False, highlight=False)
    if not plain.is_terminal and "COLUMNS" not in os.environ:
        plain.width = _PIPE_WIDTH
    return plain


def say(*parts: Part) -> None:
    """Prints lines of text, which are never broken, tables, and names with their values."""
    out = console()
    for part in parts:
        out.print(_facts(part) if isinstance(part, Mapping) else part, soft_wrap=isinstance(part, str | Text))


def warn(text: str) -> None:
    """Prints a line to standard error."""
    console(stderr=True).print(text, soft_wrap=True)


def show_report(parts: Iterable[Part], content: object, json_file: Path | None) -> None:
    """Prints a report, and writes it as JSON where a file is given; `-` prints the JSON alone.

    Args:
        parts: What people read, as `say` takes it.
        content: What programs read, as `write_json` takes it.
        json_file: The file, `STDOUT`, or None = no JSON.

    Raises:
        StoreIOError: The file cannot be written.
    """
    if json_file != STDOUT:
        say(*parts)
    if json_file is not None:
        write_json(json_file, content)


def write_json(path: Path, content: object) -> None:
    """Writes a dataclass, or what JSON knows; numbers that are not finite, which it does not know, become null.

    Raises:
        StoreIOError: The file cannot be written.
    """
    data = asdict(content) if is_dataclass(content) and not isinstance(content, type) else content
    text = to_json(data, indent=2, inf_nan_mode="null").decode() + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
    else:
        write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Writes a report.

    Raises:
        StoreIOError: The file cannot be written.
    """
    with translate_os_errors(f"{path}: cannot be written"):
        path.write_text(text, encoding="utf-8")


def table(
    *columns: str,
    rows: Iterable[Iterable[str | int]],
    title: str | None = None,
    caption: str | None = None,
    right: Collection[str] = (),
) -> Table:
    """Gives a table of plain text.

    Args:
        columns: Their headings.
        rows: Cells of each row; a whole number is shown with its thousands apart.
        title: Above it, at the left.
        caption: Below it.
        right: Headings of the columns whose cells stand at the right.
    """
    made = Table(title=title, caption=caption, title_justify="left")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    for row in rows:
        made.add_row(*map(_cell, row))
    return made


def _facts(rows: Mapping[str, str | int]) -> Table:
    made = Table(show_header=False, box=None)
    for name, value in rows.items():
        made.add_row(name, _cell(value))
    return made


def _cell(value: str | int) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def more_text(total: int, shown: int, what: str = "more") -> str | None:
    """Says how many rows a table leaves out; None = none."""
    return f"and {total - shown:,} {what}" if total > shown else None


class Steps:
    """One progress bar for each step of some work; called with (step, share that is done, rows handled so far)."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: float, rows: int = 0) -> None:
        """Draws how far a step has come."""
        task = self._task(step)
        elapsed_s = self._bars.tasks[self._bars.task_ids.index(task)].elapsed
        text = f"{rows:,} rows, {rows / elapsed_s:,.0f} a second" if rows and elapsed_s else ""
        self._bars.update(task, completed=done, text=text)

    def counted(self, step: str, done: int, total: int) -> None:
        """Draws how many parts of a step are done."""
        self._bars.update(self._task(step), completed=done / max(total, 1), text=f"{done:,}/{total:,}")

    def _task(self, step: str) -> TaskID:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=1.0, text="")
        return self._tasks[step]


@contextmanager
def steps() -> Iterator[Steps]:
    """Draws progress bars on standard error where that is a terminal, and takes them away in the end."""
    # Here, because a worker of a server draws nothing.
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    err = console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}"), *columns, console=err, transient=True, disable=not err.is_terminal
    ) as bars:
        yield Steps(bars)


@contextmanager
def bar(step: str) -> Iterator[Callable[[float], None]]:
    """Gives a callback that draws which share of one step is done."""
    with steps() as progress:
        yield lambda done: progress(step, done)


def check_matplotlib() -> None:
    """Checks that a plot can be drawn, before the work that it is to show.

    Raises:
        MatplotlibMissingError: It cannot.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MatplotlibMissingError(
            f"a picture needs matplotlib ({error}); pip install 'lookback[report]', or ask for no picture"
        ) from error


def new_figure(width: float, height: float) -> Any:  # noqa: ANN401 (matplotlib is not typed here)
    """Gives an empty matplotlib figure, in inches.

    Raises:
        MatplotlibMissingError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> None:  # noqa: ANN401
    """Writes a figure as a PNG file, the same bytes for the same figure.

    Raises:
        StoreIOError: The file cannot be written.
    """
    with translate_os_errors(f"{path}: cannot be written"):
        figure.savefig(path, dpi=110, format="png", metadata={"Software": None})


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


def field_text(value: str | float | None) -> str:
    """Gives a side-info value as text; "-" where it is missing."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:g}"
