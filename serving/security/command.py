"""The command that makes a token and its line: `token`, the same for both services."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from serving.security.roles import Role
from serving.security.tokens import HEADER, MOST_IN_FLIGHT, new_token
from store.command import output_file
from store.errors import InputError, translate_os_errors
from store.terminal import say, warn

DAY_S = 86_400.0
LONGEST_DAYS = 3650


def token(
    caller: Annotated[str, typer.Option(help="Service that is to hold the token, as ads or pipeline; never a person.")],
    role: Annotated[
        list[Role] | None, typer.Option(help="What it allows; may be repeated. None: health in detail and metrics.")
    ] = None,
    days: Annotated[int, typer.Option(min=0, max=LONGEST_DAYS, help="Days until it expires; 0 = never.")] = 180,
    in_flight: Annotated[
        int | None, typer.Option(min=1, max=MOST_IN_FLIGHT, help="Calls of this caller that a process takes at once.")
    ] = None,
    tokens: Annotated[
        Path | None, output_file("--tokens", "File to add the line to, made where it is absent; default: it is shown.")
    ] = None,
    out: Annotated[
        Path | None, output_file("--out", "File to write the token to, readable by this user only; default: shown.")
    ] = None,
) -> None:
    """Make a token for a caller of the services, and the line of the servers' file that lets it in."""
    expires_s = time.time() + days * DAY_S if days else None
    made, credential = new_token(caller, role or (), expires_s, in_flight)
    if out is not None:
        _write_secret(out, made)
    if tokens is None:
        say(credential.line())
        warn("the line above belongs into the file that servers get as --tokens; they take it up within a second")
    else:
        _add(tokens, credential.line())
        warn(f"{tokens}: added {credential.id} of {caller}; servers take it up within a second")
    if out is None:
        warn("the token, which is shown this once; give it to the caller and to nobody else:")
        sys.stdout.write(made + "\n")


def _write_secret(path: Path, made: str) -> None:
    if path.exists():
        raise InputError(f"--out: {path} is there already; a token that is replaced would be lost")
    with (
        translate_os_errors(f"{path}: cannot be written"),
        os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file,
    ):
        file.write(made + "\n")


def _add(path: Path, line: str) -> None:
    """Adds a line, whole or not at all: servers read the file at any moment."""
    with translate_os_errors(f"{path}: cannot be written"):
        text = path.read_text(encoding="utf-8") if path.exists() else HEADER
        part = path.with_name(path.name + ".part")
        part.write_text(text + ("" if text.endswith("\n") else "\n") + line + "\n", encoding="utf-8")
        if path.exists():
            part.chmod(path.stat().st_mode & 0o777)
        part.replace(path)
