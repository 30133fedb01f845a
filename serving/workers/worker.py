"""One worker as its supervisor sees it: a process, started again when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from serving.slot import WorkerReport
from serving.workers.process import reason, start_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger

    from serving.slot import WorkerSlot
    from serving.workers.fork_server import ForkServer
    from serving.workers.process import ForkedProcess

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 3.0
"""Before a start again: doubled each time a worker dies young."""
YOUNG_S = 30.0


class WorkerProcess:
    """Starts a worker, looks after it, ends it. For one thread; `report` may be read by any."""

    def __init__(self, slot: WorkerSlot, command: Sequence[str], log: FilteringBoundLogger) -> None:
        """Prepares a worker, and starts nothing.

        Args:
            slot: Its slot.
            command: What to run.
            log: Gets a line when it starts, serves and dies.
        """
        self.number = slot.number
        self.restarts = 0
        self.report: WorkerReport | None = None
        """None while it does not serve."""
        self.exit_code: int | None = None
        """Of the last time it ended; negative = the signal that it died of."""
        self._command = command
        self._file = slot.report
        self._log = log.bind(worker=slot.number)
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self._started_s = 0.0
        self._due_s = 0.0
        self._pause_s = FIRST_PAUSE_S

    def start(self, fork_server: ForkServer | None = None) -> None:
        """Starts it as a new program, or has the process that stands by fork it."""
        self._file.unlink(missing_ok=True)
        self._process = fork_server.take(self._command[-1]) if fork_server is not None else None
        self._process = self._process or start_program(self._command)
        self._started_s = time.monotonic()
        self._log.info("worker started", worker_pid=self._process.pid)

    def poll(self, fork_server: ForkServer | None = None, *, again: bool = True) -> None:
        """Notes whether it serves or has died.

        Args:
            fork_server: Forks it again when it has died; None = it is started as a new program.
            again: Start it again after a pause when it has died.
        """
        if self._process is None:
            if time.monotonic() >= self._due_s:
                self.restarts += 1
                self.start(fork_server)
        elif (code := self._process.poll()) is not None:
            self._reap(code)
            if not again:
                self._log.error("worker could not start", ended_by=reason(code))
                return
            self._due_s = time.monotonic() + self._pause_s
            self._log.error("worker died", ended_by=reason(code), starts_again_in_s=self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        elif self.report is None:
            self.report = WorkerReport.read(self._file)
        elif time.monotonic() - self._started_s > YOUNG_S:
            self._pause_s = FIRST_PAUSE_S

    def terminate(self) -> None:
        """Asks it to drain."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, give_up_s: float) -> bool:
        """Waits for it to end after `terminate`; kills it when that takes too long.

        Args:
            give_up_s: Point of `time.monotonic`.

        Returns:
            Whether it ended in order, or did not run.
        """
        if self._process is None:
            return True
        try:
            code = self._process.wait(max(0.0, give_up_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reap(code)
        in_order = code in (0, -signal.SIGTERM)  # the latter: before it could serve at all
        if not in_order:
            self._log.error("worker did not end in order", ended_by=reason(code))
        return in_order

    def _reap(self, code: int) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process, self.report, self.exit_code = None, None, code


def end_with_supervisor() -> None:
    """Has this process, a worker, drain and end when its supervisor is gone."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()
