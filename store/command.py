"""What all command lines share: how commands are declared and run, and the options that mean the same in each.

A command is a function named as the command is, in a module of its package's `cli`; `cli/__init__.py` lists them.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from store.dataset.oddities import YEAR_2000_MS, date_text, seconds_hint
from store.errors import InputError
from store.terminal import STDOUT, check_matplotlib, exit_on_error, warn
from store.types import parse_time

_USAGE_ERROR: Any = typer.BadParameter.__base__
"""The class of every error in how a command was typed; typer exports it under no name."""


def command_line(help: str | None, *commands: Callable[..., None], **groups: typer.Typer) -> typer.Typer:
    """Gives the command line of some commands, and of some groups of commands by name.

    Args:
        help: What `--help` says first.
        commands: Functions, each named as the command is.
        groups: Command lines of their own.
    """
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=help)
    for command in commands:
        app.command()(command)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def run(app: typer.Typer) -> NoReturn:
    """Runs a command line and ends the process: 0 = done, 1 = the operator must act, 2 = the caller must."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names are printed in any locale, escaped where it lacks a letter
            stream.reconfigure(errors="backslashreplace")
    with exit_on_error():
        try:
            status = app(standalone_mode=False)
        except _USAGE_ERROR as error:
            problem = error.format_message()
            if not problem:  # no command was given, and the help is printed already
                sys.exit(2)
            raise InputError(f"{problem.rstrip('.')}; see --help") from error
    sys.exit(status)


def output_file(name: str, help: str) -> Any:  # noqa: ANN401 (what typer.Option gives)
    """Gives an option of a file to write, refused before any work where it cannot be written."""
    return typer.Option(name, help=help, callback=_check_file)


def drawn_file(name: str, help: str) -> Any:  # noqa: ANN401
    """Gives an option of a file to draw in: as `output_file`, and refused where matplotlib is not installed."""
    return typer.Option(name, help=help, callback=_check_plot)


def output_folder(name: str, help: str) -> Any:  # noqa: ANN401
    """Gives an option of a folder to write in, made where it is absent; refused before any work where it cannot be."""
    return typer.Option(name, help=help, callback=_check_folder)


def time_option(name: str, help: str) -> Any:  # noqa: ANN401
    """Gives an option of a time, as milliseconds UTC, as a date or as a date with a time of day."""
    help += " Milliseconds UTC, or as 2017-10-30 or 2017-10-30T08:15."
    return typer.Option(name, help=help, parser=lambda text: _time(name, text), metavar="TIME")


def _time(name: str, text: str) -> int:
    found = parse_time(text, name)
    if 0 < found < YEAR_2000_MS:
        warn(f"warning: {name}: {text} is {date_text(found)}{seconds_hint(found)}")
    return found


def config_folder(help: str) -> Any:  # noqa: ANN401
    """Gives the option `--config`: a folder that holds schema, targets, train and search.yaml."""
    return typer.Option("--config", help=help, callback=_check_config)


def _check_file(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is None or path == STDOUT:
        return path
    if path.is_dir():
        raise InputError(f"{parameter.opts[0]}: {path} is a folder; give a file")
    if not path.exists():
        _try_to_write(parameter.opts[0], path, path.parent)
    elif not os.access(path, os.W_OK):
        raise InputError(f"{parameter.opts[0]}: {path} may not be written")
    return path


def _check_folder(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is not None:
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        _try_to_write(parameter.opts[0], path, there)
    return path


def _check_plot(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is not None:
        check_matplotlib()
    return _check_file(parameter, path)


def _check_config(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        found = "is a file" if path.exists() else "is not there"
        raise InputError(f"--config: {path} {found}; give the folder that holds the configuration files")
    return path


def _try_to_write(name: str, path: Path, folder: Path) -> None:
    """Makes a file without a name: permissions alone do not tell, for the superuser and on read-only file systems."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{name}: {path} cannot be written: {folder}: {error.strerror}") from error


StoreOption = Annotated[Path, typer.Option("--store", help="Root of the behavior store.")]
IndexOption = Annotated[Path | None, typer.Option("--index", help="Root of the index; without it soft search is off.")]
BundleOption = Annotated[Path, typer.Option("--bundle", help="Root of model bundles.")]
ConfigOption = Annotated[Path | None, config_folder("Folder with search.yaml; default: the packaged search.yaml.")]
UserOption = Annotated[str, typer.Option(help="User, by id as it stands in the input.")]
AsOfOption = Annotated[int | None, time_option("--as-of", "As-of time; default: now.")]
JsonOption = Annotated[
    Path | None, output_file("--json", "File to write all of it to as JSON; - = standard output, without the tables.")
]
PlotOption = Annotated[Path | None, drawn_file("--plot", "PNG file to draw; needs the extra `report`.")]
