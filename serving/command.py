"""The options that every `serve` command has."""

from __future__ import annotations

import inspect
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.options import ServeOptions
from store.command import output_file

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WORKERS = 256
WorkersOption = Annotated[
    int, typer.Option(min=1, max=MOST_WORKERS, help="Processes that serve the port; 1 = this one alone.")
]


def _shared(
    host: Annotated[str, typer.Option(help="Address to listen on; another than loopback needs --insecure.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 = any free one.")] = 0,
    port_file: Annotated[
        Path | None, output_file("--port-file", "File to write the bound port to, once it serves.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of the Prometheus page; 0 = any free one, default: no page.")
    ] = None,
    reflection: Annotated[bool, typer.Option("--reflection", help="Offer gRPC server reflection.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback without encryption or access control.")
    ] = False,
    max_running: Annotated[int, typer.Option(help="Requests that a process works on at once.")] = 4,
    max_waiting: Annotated[int, typer.Option(help="Requests that may wait for that; more are turned away.")] = 64,
    grace_s: Annotated[
        float, typer.Option("--grace-seconds", help="Time that requests in flight get after SIGTERM.")
    ] = 10.0,
    watch_s: Annotated[
        float,
        typer.Option(
            "--watch-seconds", help="Time from one look for a new generation to the next; 0 = wait for Admin.Reload."
        ),
    ] = 5.0,
) -> None:
    """Has the names of `ServeOptions` for its parameters; only its signature is used."""


def serve_options(*, port: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a typer command every option of serving; the function gets them as its parameter `options`.

    Args:
        port: The default of `--port`.
    """
    shared = list(inspect.signature(_shared, eval_str=True).parameters.values())
    shared = [each.replace(default=port) if each.name == "port" else each for each in shared]
    names = {each.name for each in shared}

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:  # noqa: ANN401 (the values of a command line)
            options = ServeOptions(**{name: given.pop(name) for name in names})
            command(**given, options=options)

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [*(each for each in own if each.name != "options"), *shared]
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return with_options
