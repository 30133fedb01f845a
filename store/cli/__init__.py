"""The command `lookback-store`: builds a store, shows what is in it, checks it, copies it."""

from __future__ import annotations

import typer

from store.cli import build, copies, live, reports, taxonomy
from store.cli.shared import run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

for command in (
    build.ingest,
    build.rebuild,
    build.rollback,
    live.append,
    live.follow,
    live.delete_user,
    reports.stats,
    reports.history,
    reports.verify,
    copies.export,
    copies.backup,
):
    app.command()(command)
app.add_typer(taxonomy.app, name="taxonomy")


def main() -> None:
    """Runs the command line: 0 done, 1 the operator must act, 2 the caller must; one line says what."""
    run(app)
