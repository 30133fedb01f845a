"""Processes as their supervisor has them: a program that it started, or a fork that was left to it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ForkedProcess:
    """A child of this process that another one forked; has what `subprocess.Popen` has, as far as it is needed."""

    def __init__(self, pid: int, stdin: IO[bytes]) -> None:
        """Takes it on.

        Args:
            pid: Its process id; this process must be its parent.
            stdin: The end of its standard input, which it reads to learn that this process is gone.
        """
        self.pid = pid
        self.stdin = stdin
        self._code: int | None = None

    def poll(self) -> int | None:
        """Gives how it ended, negative = the signal that it died of; None = it has not."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end, and gives how it ended.

        Raises:
            subprocess.TimeoutExpired: It has not ended within that time.
        """
        if self.poll() is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                select.select([descriptor], [], [], timeout)
            finally:
                os.close(descriptor)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it."""
        self.send_signal(signal.SIGKILL)


def start_program(command: Sequence[str], pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own: a key pressed in the terminal reaches the supervisor alone.

    It holds the end of a pipe from which it learns that the supervisor is gone. If `OMP_NUM_THREADS` is not set, it is
    1 there: workers share the cores, and numpy would start threads with its import, which a process that forks must not
    have.
    """
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, pass_fds=pass_fds, env=environment)


def reason(code: int) -> str:
    """Says how a process ended, by its exit code."""
    return f"exit status {code}" if code >= 0 else signal.Signals(-code).name
