"""`lookback-search`: build an index, ask one question, measure, serve, compile ahead. A composition root."""

from __future__ import annotations

from search_stage.cli import index, precompile, query, recall, serve
from serving.security.command import token
from store.command import command_line, run

app = command_line(
    "Stage one: what matters of a user's past, per ad.",
    index.build_index,
    index.rollback_index,
    query.query,
    recall.recall,
    serve.serve,
    token,
    precompile.compile,
)


def main() -> None:
    """Runs the command line."""
    run(app)
