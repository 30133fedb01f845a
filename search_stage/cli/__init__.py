"""`lookback-search`: build an index, ask one question, serve, compile ahead. A composition root."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from search_stage.cli.index import build_index_command, rollback_index_command
from search_stage.cli.query import query_command
from search_stage.cli.recall import recall_command
from search_stage.config import SearchConfig
from search_stage.serving.exit import told
from serving import ServeOptions
from serving.command import serve_options
from serving.workers.supervisor import MOST_WORKERS
from store.cli.shared import bar, say

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Stage one: what matters of a user's past, per ad.")
app.command("build-index")(build_index_command)
app.command("rollback-index")(rollback_index_command)
app.command("query")(query_command)
app.command("recall")(recall_command)
StoreOption = Annotated[Path, typer.Option("--store", help="Root of the behavior store.")]
IndexOption = Annotated[Path | None, typer.Option("--index", help="Root of the index; without it soft search is off.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="search.yaml; default: the packaged one.")]


@app.command()
@serve_options(port=50051)
def serve(
    store: StoreOption,
    options: ServeOptions,
    index: IndexOption = None,
    config: ConfigOption = None,
    append: Annotated[
        bool, typer.Option("--append", help="Also offer Append and DeleteUser; one server per store may.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=MOST_WORKERS, help="Processes that serve the port; 1 = this one alone.")
    ] = 1,
) -> None:
    """Serve search over gRPC until SIGTERM."""
    loaded = SearchConfig.load(config)
    if workers == 1:
        from search_stage.serving.server import serve as serve_alone

        serve_alone(store, index, loaded, options, append=append)
    else:
        from search_stage.serving.workers import WorkerSpec, serve_with_workers

        spec = WorkerSpec(store_root=store, index_root=index, config=loaded, options=options, append=append)
        sys.exit(serve_with_workers(spec, workers))


@app.command("compile")
def compile_command() -> None:
    """Compile all kernels of search and of the index build, for images and machines that shall not do it at a start."""
    from search_stage.cli.compile import compile_ahead

    started_s = time.monotonic()
    with bar("compile") as progress:
        compile_ahead(progress)
    say(f"compiled, or found compiled, in {time.monotonic() - started_s:.1f} s")


def main() -> None:
    """Runs the command line."""
    with told():
        app()
