"""The command that serves ranking: `serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from serving import ClientSecurity, ServeOptions
from serving.command import WorkersOption, client_options, serve_options
from store.command import BundleOption, output_folder


@serve_options(port=50052, max_running=2)
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
    served_log: Annotated[
        Path | None, output_folder("--served-log", "Folder to keep a share of the served requests in: docs/served.md.")
    ] = None,
    served_share: Annotated[float, typer.Option(help="Share of requests to keep there, chosen by their ids.")] = 0.01,
    shadow_bundle: Annotated[
        Path | None,
        typer.Option(help="Root of bundles that score a share of requests besides, once they are answered."),
    ] = None,
    shadow_share: Annotated[float, typer.Option(help="Share of requests for the shadow, chosen by their ids.")] = 0.1,
    shadow_search: Annotated[
        str | None,
        typer.Option(
            help="host:port of a search service with the shadow's index; default: it scores what was retrieved."
        ),
    ] = None,
) -> None:
    """Serve ranking over gRPC until SIGTERM."""
    from model_stage.serving.options import RankingOptions

    ranking_options = RankingOptions(
        experiments=tuple(experiment or ()),
        search_security=search_security,
        served_log=served_log,
        served_share=served_share,
        shadow_bundle=shadow_bundle,
        shadow_share=shadow_share,
        shadow_search=shadow_search,
    )
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
