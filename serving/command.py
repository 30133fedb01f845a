"""The options that every `serve` command has, and those of every command that asks a server."""

from __future__ import annotations

import inspect
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from serving.options import ClientSecurity, ServeOptions
from store.command import output_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Decorator = Callable[[Callable[..., None]], Callable[..., None]]

MOST_WORKERS = 256
WorkersOption = Annotated[
    int, typer.Option(min=1, max=MOST_WORKERS, help="Processes that serve the port; 1 = this one alone.")
]


def _shared(
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than loopback needs --tls-cert and --tokens.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 = any free one.")] = 0,
    port_file: Annotated[
        Path | None, output_file("--port-file", "File to write the bound port to, once it serves.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of the Prometheus page; 0 = any free one, default: no page.")
    ] = None,
    reflection: Annotated[bool, typer.Option("--reflection", help="Offer gRPC server reflection.")] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM file of the server's certificate; needs --tls-key.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM file of CAs: only clients with a certificate of theirs get in.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="File of the tokens that count; `token` makes one. See docs/security.md.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback without encryption or access control.")
    ] = False,
    log_users: Annotated[bool, typer.Option("--log-users", help="Let logs name users, to look for a fault.")] = False,
    max_running: Annotated[int, typer.Option(help="Requests that a process works on at once.")] = 2,
    max_waiting: Annotated[int, typer.Option(help="Requests that may wait for that; more are turned away.")] = 8,
    grace_s: Annotated[
        float, typer.Option("--grace-seconds", help="Time that requests in flight get after SIGTERM.")
    ] = 10.0,
    watch_s: Annotated[
        float,
        typer.Option(
            "--watch-seconds", help="Time from one look for a new generation to the next; 0 = wait for Admin.Reload."
        ),
    ] = 5.0,
    trace: Annotated[
        bool,
        typer.Option("--trace", help="Send spans by OTLP, as the OTEL_... variables say; needs the extra `trace`."),
    ] = False,
    slow_ms: Annotated[
        float, typer.Option(help="Requests that take longer are logged with the time of each stage; 0 = none are.")
    ] = 0.0,
    warm_requests: Annotated[
        Path | None,
        typer.Option(help="Recorded requests that a new generation answers before it serves: docs/served.md."),
    ] = None,
) -> None:
    """Has the names of `ServeOptions` for its parameters; only its signature is used."""


def _client(
    tls_ca: Annotated[
        Path | None, typer.Option(help="PEM file of the CAs that the server is known by; without it there is no TLS.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of the client's own certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with nothing but the client's token.")] = None,
) -> None:
    """Has the names of `ClientSecurity` for its parameters; only its signature is used."""


def serve_options(*, port: int, max_running: int) -> Decorator:
    """Gives a typer command every option of serving; the function gets them as its parameter `options`.

    Args:
        port: The default of `--port`.
        max_running: The default of `--max-running`: 1 for what computes, 2 for what also waits for another service.
    """
    defaults = {"port": port, "max_running": max_running}
    shared = inspect.signature(_shared, eval_str=True).parameters.values()
    return _given(
        "options", ServeOptions, [each.replace(default=defaults.get(each.name, each.default)) for each in shared]
    )


def client_options(parameter: str = "security", prefix: str = "") -> Decorator:
    """Gives a typer command the options of a client; the function gets them as a `ClientSecurity`.

    Args:
        parameter: Name of the function's parameter.
        prefix: Stands before the name of every option, as "search-".
    """
    shared = []
    for each in inspect.signature(_client, eval_str=True).parameters.values():
        kind, option = get_args(each.annotation)
        named = typer.Option(f"--{prefix}{each.name.replace('_', '-')}", help=option.help)
        shared.append(each.replace(annotation=Annotated[kind, named]))
    return _given(parameter, ClientSecurity, shared, prefix.replace("-", "_"))


def _given(
    parameter: str, kind: Callable[..., object], shared: Sequence[inspect.Parameter], prefix: str = ""
) -> Decorator:
    """Makes one parameter of a command out of options, which are named as the parameters of `kind`."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:  # noqa: ANN401 (the values of a command line)
            command(
                **{parameter: kind(**{each.name: given.pop(prefix + each.name, each.default) for each in shared})},
                **given,
            )

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [
            *(each for each in own if each.name != parameter),
            *(each.replace(name=prefix + each.name) for each in shared),
        ]
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return with_options
