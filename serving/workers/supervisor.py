"""Several worker processes on one port, and the one process that starts them, starts them again and ends them."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from serving.security.door import open_door
from serving.server.page import open_page
from serving.slot import FIRST, WorkerSlot, write_whole
from serving.workers.fork_server import ForkServer
from serving.workers.metrics_page import WorkerPages
from serving.workers.port import reserved_port
from serving.workers.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from serving.options import ServeOptions

TICK_S = 0.05
_KILL_AFTER_S = 5.0
"""Beyond the grace time of a worker that was asked to end."""
_FOLDER_PREFIX = "lookback-workers-"
_YOUNG_S = 60.0
"""A folder so new may be about to be locked."""


class Supervisor:
    """Serves with several workers until SIGTERM or SIGINT; call `run` from the main thread of a process of its own.

    The workers are processes that inherit nothing opened: each opens the store itself. The first one is started alone,
    so that what cannot be served is said once; the others follow when it serves, and somebody stands by to fork them.
    From then on a worker that dies is started again, for ever. The first worker ends last, because the others may pass
    requests on to it.
    """

    def __init__(
        self,
        count: int,
        options: ServeOptions,
        command: Callable[[ServeOptions], Sequence[str]],
        log: FilteringBoundLogger,
        *,
        fork_server: bool = False,
    ) -> None:
        """Prepares, and starts nothing.

        Args:
            count: Number of workers.
            options: Where to listen; of the Prometheus page, this process's own.
            command: Gives what to run as a worker, from its own options: the port that was found, and its slot.
            log: Gets a line for whatever becomes of a worker.
            fork_server: Whether the command understands `STANDBY_FLAG` and a descriptor as two more arguments:
                then one more process is prepared, and forks the replacement of a worker that dies.
        """
        self._count = count
        self._options = options
        self._command = command
        self._log = log
        self._has_fork_server = fork_server
        self._fork_server: ForkServer | None = None
        self._ended = threading.Event()
        self._workers: list[WorkerProcess] = []

    def run(self) -> int:
        """Serves.

        Returns:
            Exit status: 0 = every worker finished what it had; else that of the worker that could not start, or 1.

        Raises:
            InputError: The port is taken, or a file of certificates or tokens cannot be used.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ended.set())
        door = open_door(self._options, CollectorRegistry(), self._log)  # each worker counts by itself
        with ExitStack() as stack:
            port = stack.enter_context(reserved_port(self._options))
            folder = stack.enter_context(_meeting_folder())
            commands = [self._prepare(number, port, folder) for number in range(FIRST, FIRST + self._count)]
            self._workers = [WorkerProcess(slot, command, self._log) for slot, command in commands]
            if self._has_fork_server:
                self._fork_server = ForkServer(commands[0][1], self._log)
                stack.callback(self._fork_server.end)
            if self._options.metrics_port is not None:
                registry = CollectorRegistry()
                registry.register(WorkerPages(self._workers))
                metrics_port, close = open_page(
                    self._options.host, self._options.metrics_port, registry, door.tls, door.gate
                )
                stack.callback(close)
                self._log.info("metrics", metrics_port=metrics_port)
            failed = self._start(self._workers[:1])
            if failed == 0:
                self._wait_for_fork_server()
                failed = self._start(self._workers[1:])
            if failed == 0 and not self._ended.is_set():
                if self._options.port_file is not None:
                    write_whole(self._options.port_file, f"{port}\n")
                    stack.callback(self._options.port_file.unlink, missing_ok=True)
                self._log.info("serving", address=self._options.address(port), workers=self._count)
                self._tend()
            return self._drain() or failed

    def _prepare(self, number: int, port: int, folder: Path) -> tuple[WorkerSlot, Sequence[str]]:
        slot = WorkerSlot(number=number, count=self._count, folder=folder)
        options = replace(self._options, port=port, port_file=None, worker=slot)
        return slot, self._command(options)

    def _start(self, workers: Sequence[WorkerProcess]) -> int:
        """Starts workers and waits until they serve; gives the exit status of one that does not come up, else 0."""
        for worker in workers:
            worker.start(self._fork_server)
        while not self._ended.wait(TICK_S):
            for worker in workers:
                worker.poll(again=False)
                if worker.exit_code is not None:
                    return worker.exit_code if worker.exit_code > 0 else 1
            if all(worker.report is not None for worker in workers):
                return 0
        return 0

    def _wait_for_fork_server(self) -> None:
        """Returns when a process stands by, has failed to, or is not wanted."""
        if self._fork_server is not None:
            self._fork_server.keep()
            while self._fork_server.is_preparing and not self._ended.wait(TICK_S):
                pass

    def _tend(self) -> None:
        while not self._ended.wait(TICK_S):
            if self._fork_server is not None:
                self._fork_server.keep()
            for worker in self._workers:
                worker.poll(self._fork_server)

    def _drain(self) -> int:
        if self._fork_server is not None:
            self._fork_server.end()
        in_order = True
        for workers in (self._workers[1:], self._workers[:1]):
            for worker in workers:
                worker.terminate()
            give_up_s = time.monotonic() + self._options.grace_s + _KILL_AFTER_S
            in_order &= all([worker.wait(give_up_s) for worker in workers])
        return 0 if in_order else 1


@contextmanager
def _meeting_folder() -> Iterator[Path]:
    """Gives a folder that only this user may enter, until the block ends."""
    _clear_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_FOLDER_PREFIX) as name:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # A server runs for months: programs that clear old temporary files leave a locked folder alone.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(descriptor)


def _clear_abandoned(temporary: Path) -> None:
    """Removes what killed supervisors left behind: folders of this user that no process has locked."""
    for folder in temporary.glob(f"{_FOLDER_PREFIX}*"):
        with suppress(OSError):  # of somebody else, locked, or gone meanwhile
            about = folder.stat()
            if about.st_uid != os.getuid() or time.time() - about.st_mtime < _YOUNG_S:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)
