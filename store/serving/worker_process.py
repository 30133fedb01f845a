"""One worker as its supervisor sees it: a process, started again when it dies; and the process that stands by."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from store.serving.place import WorkerReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger

    from store.serving.place import WorkerPlace

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 3.0
"""Before a start again: doubled each time a worker dies young."""
YOUNG_S = 30.0
STANDBY_FLAG = "--standby"
STANDBY_PAUSE_S = 2.0
"""From the time that one took a worker's place to the next one's start, so that they do not fight for the cores."""


class WorkerProcess:
    """Starts a worker, looks after it, ends it. For one thread; `report` may be read by any."""

    def __init__(self, place: WorkerPlace, command: Sequence[str], log: FilteringBoundLogger) -> None:
        """Prepares a worker, and starts nothing.

        Args:
            place: Its place.
            command: What to run.
            log: Gets a line when it starts, serves and dies.
        """
        self.number = place.number
        self.restarts = 0
        self.report: WorkerReport | None = None
        """None while it does not serve."""
        self.exit_code: int | None = None
        """Of the last time it ended; negative = the signal that it died of."""
        self._command = command
        self._file = place.report
        self._log = log.bind(worker=place.number)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._due_s = 0.0
        self._pause_s = FIRST_PAUSE_S

    def start(self, standby: Standby | None = None) -> None:
        """Starts it, or has the process that stands by take its place."""
        self._file.unlink(missing_ok=True)
        self._process = standby.take(self._command[-1]) if standby is not None else None
        self._process = self._process or _started(self._command)
        self._started_s = time.monotonic()
        self._log.info("worker started", worker_pid=self._process.pid)

    def tend(self, standby: Standby | None = None, *, again: bool = True) -> None:
        """Notes whether it serves or has died.

        Args:
            standby: Takes its place when it has died; None = it is started anew.
            again: Start it again after a pause when it has died.
        """
        if self._process is None:
            if time.monotonic() >= self._due_s:
                self.restarts += 1
                self.start(standby)
        elif (code := self._process.poll()) is not None:
            self._bury(code)
            if not again:
                self._log.error("worker could not start", ended_by=_reason(code))
                return
            self._due_s = time.monotonic() + self._pause_s
            self._log.error("worker died", ended_by=_reason(code), starts_again_in_s=self._pause_s)
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
        self._bury(code)
        in_order = code in (0, -signal.SIGTERM)  # the latter: before it could serve at all
        if not in_order:
            self._log.error("worker did not end in order", ended_by=_reason(code))
        return in_order

    def _bury(self, code: int) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process, self.report, self.exit_code = None, None, code


class Standby:
    """A process that has prepared itself to be any of the workers, so that one that dies is replaced at once.

    It is told what to serve by a line on its standard input: the last argument of that worker's command.
    """

    def __init__(self, command: Sequence[str], log: FilteringBoundLogger) -> None:
        """Prepares, and starts nothing.

        Args:
            command: The command of a worker, whose last argument says what it may be asked to serve.
            log: Gets a line when it dies of itself.
        """
        self._command = [*command, STANDBY_FLAG]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._due_s = 0.0

    @property
    def pid(self) -> int | None:
        """Of the process; None = there is none."""
        return None if self._process is None else self._process.pid

    def keep(self) -> None:
        """Starts a process when there is none, some time after the last one was taken or died."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._log.error("standby died", ended_by=_reason(code))
            self._bury(LONGEST_PAUSE_S)
        if self._process is None and time.monotonic() >= self._due_s:
            self._process = _started(self._command)

    def take(self, order: str) -> subprocess.Popen[bytes] | None:
        """Has the process serve; gives it, or None when there is none."""
        process = self._process
        if process is None or process.poll() is not None:
            return None
        assert process.stdin is not None
        try:
            process.stdin.write(f"{order}\n".encode())
            process.stdin.flush()
        except BrokenPipeError:  # it dies this moment; `keep` says so
            return None
        self._process, self._due_s = None, time.monotonic() + STANDBY_PAUSE_S
        return process

    def end(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._bury(0.0)

    def _bury(self, pause_s: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # of an order that was not read
            self._process.stdin.close()
        self._process, self._due_s = None, time.monotonic() + pause_s


def read_order() -> str:
    """Waits, in a process that stands by, for what to serve; empty when the supervisor is gone."""
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 1)  # no byte further: what follows is the end of the supervisor
        if not more:
            return ""
        line += more
    return line.decode().rstrip("\n")


def is_ordered() -> bool:
    """Says whether `read_order` would not have to wait."""
    return bool(select.select([0], [], [], 0)[0])


def end_with_supervisor() -> None:
    """Has this process, a worker, drain and end when its supervisor is gone."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()


def _started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own: a key pressed in the terminal reaches the supervisor alone.

    It holds the end of a pipe from which it learns that the supervisor is gone.
    """
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _reason(code: int) -> str:
    return f"exit status {code}" if code >= 0 else signal.Signals(-code).name
