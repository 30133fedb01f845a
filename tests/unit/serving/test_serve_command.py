"""The options that every `serve` command shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
import typer.main
from typer.testing import CliRunner

import model_stage.cli
import search_stage.cli
from serving import ServeOptions
from serving.command import serve_options
from store.errors import InputError

SHADOW = {"--shadow-bundle", "--shadow-share", "--shadow-search"}


def run(*arguments):
    """Gives what a command got, and how it ended."""
    app, got = typer.Typer(), []

    @app.command()
    @serve_options(port=7, max_running=3)
    def serve(
        root: Annotated[Path, typer.Option(help="Its own.")],
        options: ServeOptions,
        loud: Annotated[bool, typer.Option()] = False,
    ) -> None:
        """Serve."""
        got.append((root, options, loud))

    result = CliRunner().invoke(app, list(arguments))
    return got, result


def test_a_command_gets_its_own_options_and_the_shared_ones():
    [[root, options, loud]], _ = run("--root", "somewhere")
    assert (root, loud) == (Path("somewhere"), False)
    assert options == ServeOptions(port=7, max_running=3, watch_s=5.0)
    given = ("--host", "::1", "--port", "9", "--port-file", "p", "--metrics-port", "3", "--reflection", "--insecure")
    more = (
        "--max-running",
        "2",
        "--max-waiting",
        "0",
        "--grace-seconds",
        "1.5",
        "--watch-seconds",
        "0",
        "--loud",
        "--warm-requests",
        "w",
    )
    [[_, options, loud]], _ = run("--root", "x", *given, *more)
    assert loud
    assert options == ServeOptions(
        host="::1",
        port=9,
        port_file=Path("p"),
        metrics_port=3,
        reflection=True,
        insecure=True,
        max_running=2,
        max_waiting=0,
        grace_s=1.5,
        watch_s=0.0,
        warm_requests=Path("w"),
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--port", "65536"),
        ("--max-running", "0"),
        ("--max-waiting", "-1"),
        ("--grace-seconds", "nan"),
        ("--watch-seconds", "-1"),
        ("--watch-seconds", "inf"),
        ("--host", "0.0.0.0"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_option(option, value):
    got, result = run("--root", "x", option, value)
    assert got == []
    assert isinstance(result.exception, InputError)
    assert str(result.exception).startswith(option.removeprefix("--") + ": ")


def test_both_stages_serve_with_the_same_options():
    def options(app):
        serve = typer.main.get_command(app).commands["serve"]
        return {name for parameter in serve.params for name in parameter.opts}

    own = {
        search_stage.cli.app: {"--store", "--index", "--config", "--append"},
        model_stage.cli.app: {
            "--bundle",
            "--search",
            "--experiment",
            "--served-log",
            "--served-share",
            *SHADOW,
            *(f"--search-{name}" for name in ("tls-ca", "tls-cert", "tls-key", "token-file")),
        },
    }
    shared = [options(app) - mine for app, mine in own.items()]
    assert shared[0] == shared[1] >= {"--host", "--port", "--watch-seconds", "--workers"}
