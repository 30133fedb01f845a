"""The command that serves ranking: `serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from serving import ServeOptions
from serving.command import serve_options
from store.command import BundleOption


@serve_options(port=50052)
def serve(
    bundle: BundleOption,
    search: Annotated[str, typer.Option("--search", help="host:port of the search service.")],
    options: ServeOptions,
) -> None:
    """Serve ranking over gRPC until SIGTERM."""
    from model_stage.serving.server import serve as run_server

    run_server(bundle, search, options)
