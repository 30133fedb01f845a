"""Starts the two services as processes of their own, for the demo and the benchmarks."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKOUT = Path(__file__).resolve().parent.parent
_START_S = 300.0
"""The first start on a machine compiles the kernels."""
_STOP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the published artefacts lie."""

    store: Path
    index: Path
    bundle: Path
    config: Path
    """Folder with search.yaml."""
    examples: Path | None = None
    """Where retrieved examples are kept for the next run; None = nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A service in a process of its own."""

    address: str
    pid: int
    log: Path


@contextmanager
def running(roots: Roots, logs: Path) -> Iterator[tuple[Server, Server]]:
    """Serves search and ranking on free loopback ports for the time of the block; ends them with SIGTERM.

    Args:
        roots: What to serve.
        logs: Folder for the servers' logs.

    Raises:
        RuntimeError: A server did not start; carries the end of its log.
    """
    logs.mkdir(parents=True, exist_ok=True)
    store = ("--store", roots.store, "--index", roots.index, "--config", roots.config)
    with (
        started("search_stage", logs, *store) as search,
        started("model_stage", logs, "--bundle", roots.bundle, "--search", search.address) as ranking,
    ):
        yield search, ranking


@contextmanager
def started(package: str, logs: Path, *arguments: str | Path) -> Iterator[Server]:
    """Runs `python -m <package> serve` on a free loopback port for the time of the block; ends it with SIGTERM.

    Args:
        package: `search_stage` or `model_stage`.
        logs: Folder for the log.
        arguments: Of `serve`, beyond where to listen.

    Raises:
        RuntimeError: The server did not start; carries the end of its log.
    """
    port_file = logs / f"{package}.port"
    command = (package, "serve", "--port", "0", "--port-file", port_file, "--reflection", *arguments)
    with listening(command, port_file, logs / f"{package}.log") as server:
        yield server


@contextmanager
def listening(command: Sequence[str | Path], port_file: Path, log: Path) -> Iterator[Server]:
    """Runs `python -m <command>` until the end of the block, from when it listens; ends it with SIGTERM.

    Args:
        command: Module and arguments; makes a server listen on the loopback, and then write its port to a file.
        port_file: That file.
        log: Where its output goes.

    Raises:
        RuntimeError: The server did not start; carries the end of its log.
    """
    port_file.unlink(missing_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, command)], cwd=CHECKOUT, stdout=stream, stderr=stream
        )
    try:
        yield Server(address=f"127.0.0.1:{_wait_for_port(port_file, process, log)}", pid=process.pid, log=log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(port_file: Path, process: subprocess.Popen[bytes], log: Path) -> int:
    give_up_s = time.monotonic() + _START_S
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise RuntimeError(f"{log}: the server did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)
    return int(port_file.read_text())
