"""The command `lookback-store`: builds a store, shows what is in it, checks it, copies it."""

from __future__ import annotations

from store.cli import build, copies, live, reports, taxonomy
from store.command import command_line, run

app = command_line(
    __doc__,
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
    taxonomy=command_line(taxonomy.__doc__, taxonomy.check, taxonomy.show),
)


def main() -> None:
    """Runs the command line."""
    run(app)
