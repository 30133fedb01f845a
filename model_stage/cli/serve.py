"""The command that serves ranking: `serve`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from serving import ClientSecurity, ServeOptions
from serving.command import WorkersOption, client_options, serve_options
from store.command import BundleOption


@serve_options(port=50052)
@client_options("search_security", "search-")
def serve(
    bundle: BundleOption,
    search: Annotated[str, typer.Option("--search", help="host:port of the search service.")],
    options: ServeOptions,
    search_security: ClientSecurity,
    workers: WorkersOption = 1,
    experiment: Annotated[
        list[str] | None, typer.Option(help="Name that requests may give as their experiment; may be repeated.")
    ] = None,
) -> None:
    """Serve ranking over gRPC until SIGTERM."""
    from model_stage.serving.options import RankingOptions

    ranking_options = RankingOptions(experiments=tuple(experiment or ()), search_security=search_security)
    if workers == 1:
        from model_stage.serving.server import serve as serve_alone

        serve_alone(bundle, search, options, ranking_options)
    else:
        from model_stage.serving.workers import RankingWorker
        from serving import make_logger, serve_with_workers

        spec = RankingWorker(
            bundle_root=bundle, search_address=search, options=options, ranking_options=ranking_options
        )
        sys.exit(serve_with_workers(spec, workers, make_logger("ranking")))
