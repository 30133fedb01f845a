"""The command that serves search: `serve`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from search_stage.config import SearchConfig
from serving import ServeOptions
from serving.command import WorkersOption, serve_options
from store.command import ConfigOption, IndexOption, StoreOption


@serve_options(port=50051, max_running=1)
def serve(
    store: StoreOption,
    options: ServeOptions,
    index: IndexOption = None,
    config: ConfigOption = None,
    append: Annotated[
        bool, typer.Option("--append", help="Also offer Append and DeleteUser; one server per store may.")
    ] = False,
    workers: WorkersOption = 1,
) -> None:
    """Serve search over gRPC until SIGTERM."""
    loaded = SearchConfig.load(config)
    if workers == 1:
        from search_stage.serving.server import serve as serve_alone

        serve_alone(store, index, loaded, options, append=append)
    else:
        from search_stage.serving.workers import SearchWorker
        from serving import make_logger, serve_with_workers

        spec = SearchWorker(store_root=store, index_root=index, config=loaded, options=options, append=append)
        sys.exit(serve_with_workers(spec, workers, make_logger("search")))
