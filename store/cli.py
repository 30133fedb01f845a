"""The command `lookback-store`: ingest, stats, history, verify."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from store.behavior_store import BehaviorStore
from store.errors import InputError, StoreError
from store.ingest import ingest as run_ingest
from store.types import parse_id
from store.verify import verify as run_verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from store.ingest import IngestReport

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
_console = Console(soft_wrap=True)
_errors = Console(stderr=True, soft_wrap=True)

StoreOption = Annotated[Path, typer.Option("--store", help="Root of the store.")]


@app.command()
def ingest(
    dataset: Annotated[Path, typer.Option("--input", help="Folder of the input files, see docs/data.md.")],
    store: StoreOption,
    max_bad_rows: Annotated[int, typer.Option(min=0, help="Refuse up to this many rows and go on.")] = 0,
    bad_rows: Annotated[Path | None, typer.Option(help="CSV file to list the refused rows in.")] = None,
) -> None:
    """Checks a dataset folder and publishes it as the store's current generation."""
    with _steps() as progress:
        report = run_ingest(dataset, store, max_bad_rows=max_bad_rows, bad_rows_file=bad_rows, progress=progress)
    _print_report(report)


@app.command()
def stats(store: StoreOption) -> None:
    """Shows what the current generation holds."""
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        meta = snapshot.meta
        lengths = [snapshot.columns(user).num_behaviors for user in snapshot.user_ids()]
        table = _facts("generation", snapshot.generation)
        table.add_row("users", f"{meta.num_users:,}")
        table.add_row("behaviors", f"{meta.num_behaviors:,}")
        table.add_row("  per user", _spread(lengths))
        table.add_row("  from", _time(meta.first_ms))
        table.add_row("  to", _time(meta.last_ms))
        table.add_row("  unmapped", f"{meta.num_unmapped:,}")
        table.add_row("categories", f"{meta.num_categories:,}")
        table.add_row("items", f"{meta.num_items:,}")
        table.add_row("ads that cover products", f"{len(snapshot.covers.ids):,}")
        table.add_row("item fields", ", ".join(meta.item_fields) or "none")
        table.add_row("user fields", ", ".join(meta.user_fields) or "none")
        table.add_row("streams", ", ".join(f"{domain}/{action}" for domain, action in snapshot.streams) or "none")
    _console.print(table)


@app.command()
def history(
    store: StoreOption,
    user: Annotated[str, typer.Option(help="User id as it stands in the input.")],
    limit: Annotated[int, typer.Option(min=1, help="Show the newest that many.")] = 20,
) -> None:
    """Shows a user's newest behaviors, newest first."""
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        key = parse_id(user, "user")
        rows = snapshot.history(key, limit=limit)
        words = snapshot.vocabulary
        table = Table("time (UTC)", "domain", "action", "scene", "item", "category")
        for at in range(len(rows) - 1, -1, -1):
            table.add_row(
                _time(int(rows.timestamp_ms[at])),
                words.domains[rows.domain[at]],
                words.actions[rows.action[at]],
                words.scenes[rows.scene[at]],
                snapshot.name_of("item", int(rows.item[at])),
                snapshot.name_of("category", int(rows.category[at])) or "unmapped",
            )
        total = snapshot.columns(key).num_behaviors
    _console.print(table)
    _console.print(f"{len(rows)} of {total} behaviors of user {user}")


@app.command()
def verify(store: StoreOption) -> None:
    """Audits the current generation: every hash, every record."""
    with Progress(console=_errors, transient=True, disable=not _errors.is_terminal) as bars:
        task = bars.add_task("verify", total=1.0)
        report = run_verify(store, progress=lambda done: bars.update(task, completed=done))
    _console.print(
        f"generation {report.generation} is sound: {report.num_behaviors:,} behaviors of {report.num_users:,} users"
    )


def main() -> None:
    """Runs the command line: 0 done, 1 the operator must act, 2 the caller must; one line says what."""
    try:
        app(standalone_mode=True)
    except InputError as exc:
        _fail(exc, 2)
    except StoreError as exc:
        _fail(exc, 1)


def _fail(exc: StoreError, status: int) -> None:
    _errors.print(f"lookback-store: {exc}", markup=False, highlight=False)
    sys.exit(status)


@contextmanager
def _steps() -> Iterator[Callable[[str, float], None]]:
    """Gives a progress callback that draws one bar per step."""
    with Progress(console=_errors, transient=True, disable=not _errors.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def update(step: str, done: float) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0)
            bars.update(tasks[step], completed=done)

        yield update


def _print_report(report: IngestReport) -> None:
    meta = report.meta
    table = _facts("published", report.generation)
    table.add_row("users", f"{meta.num_users:,}")
    table.add_row("behaviors", f"{meta.num_behaviors:,}")
    table.add_row("  duplicates left out", f"{report.num_duplicates:,}")
    table.add_row("  unmapped", f"{meta.num_unmapped:,}")
    table.add_row("categories", f"{meta.num_categories:,}")
    table.add_row("items", f"{meta.num_items:,}")
    table.add_row("bad rows refused", f"{len(report.bad_rows):,}")
    table.add_row("seconds", f"{report.duration_s:.1f}")
    _console.print(table)
    for row in report.bad_rows[:10]:
        _errors.print(f"refused {row}", markup=False, highlight=False)


def _facts(name: str, value: str) -> Table:
    table = Table(show_header=False, box=None)
    table.add_row(name, value)
    return table


def _spread(lengths: list[int]) -> str:
    if not lengths:
        return "none"
    ordered = sorted(lengths)
    return f"min {ordered[0]:,}, median {ordered[len(ordered) // 2]:,}, max {ordered[-1]:,}"


def _time(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
