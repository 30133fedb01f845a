"""A warm process that forks replacement workers."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from serving.server.memory import freeze_libraries
from serving.workers.process import ForkedProcess, reason, start_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger

STANDBY_FLAG = "--standby"
"""Follows a worker's command, and is followed by the number of the descriptor that orders come from."""
CANNOT_FORK = 3
"""Exit status of one that would not be any better if it was started again."""
PAUSE_S = 3.0
"""From the death of one that stood by to the start of the next."""
_READY = b"ready"
_ANSWER_S = 5.0
_LONGEST_ORDER_BYTES = 4096
_PR_SET_CHILD_SUBREAPER = 36
"""Of prctl(2)."""


class ForkServer:
    """The supervisor's end of the warm process; for one thread.

    A request is a line, the last argument of a worker's command, with the read end of a pipe that becomes the worker's
    standard input: see `serve_fork_requests`. What it forks becomes a child of this process, which learns how it ends,
    also after the warm process is gone.
    """

    def __init__(self, command: Sequence[str], log: FilteringBoundLogger) -> None:
        """Prepares, and starts nothing.

        Args:
            command: The command of a worker, whose last argument says what it may be asked to serve.
            log: Gets a line when the process dies of itself.
        """
        self._command = [*command, STANDBY_FLAG]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._is_ready = False
        self._due_s = 0.0
        self._can_fork = _adopt_orphans()

    @property
    def pid(self) -> int | None:
        """Of the process, once it is ready; None = it is not ready, or gone."""
        return self._process.pid if self._process is not None and self._ready() else None

    @property
    def is_preparing(self) -> bool:
        """Whether a process was started, lives, and is not ready yet."""
        return self._process is not None and self._process.poll() is None and not self._ready()

    def keep(self) -> None:
        """Starts a process when there is none."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._log.error("standby died", ended_by=reason(code))
            self._can_fork = code != CANNOT_FORK
            self._reap()
        if self._process is None and self._can_fork and time.monotonic() >= self._due_s:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = start_program([*self._command, str(theirs.fileno())], pass_fds=(theirs.fileno(),))

    def take(self, order: str) -> ForkedProcess | None:
        """Forks a process that serves; None when the fork server is not ready."""
        if self._control is None or not self._ready():
            return None
        theirs, lifeline = os.pipe()
        try:
            socket.send_fds(self._control, [order.encode()], [theirs])
            self._control.settimeout(_ANSWER_S)
            return ForkedProcess(int(self._control.recv(32)), os.fdopen(lifeline, "wb", 0))
        except (OSError, ValueError):
            # Dead, or deaf. Should it have forked all the same, that process finds its standard input at its end.
            os.close(lifeline)
            self.end()
            self._log.error("standby did not answer")
            return None
        finally:
            os.close(theirs)

    def end(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._reap()

    def _ready(self) -> bool:
        assert self._control is not None
        if not self._is_ready and select.select([self._control], [], [], 0)[0]:
            with suppress(ConnectionResetError):  # it has died; `keep` says so
                self._is_ready = self._control.recv(len(_READY)) == _READY
        return self._is_ready

    def _reap(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._control is not None
        self._process.stdin.close()
        self._control.close()
        self._process, self._control, self._is_ready = None, None, False
        self._due_s = time.monotonic() + PAUSE_S


def serve_fork_requests(control: int, log: FilteringBoundLogger) -> str:
    """Stands by, in a process that is prepared, and returns in each process that is forked from it.

    That one has the supervisor as its parent, a session of its own, and the pipe that came with the order as standard
    input. A process that has more than one thread ends: a fork would keep one of them, and what the others held.

    Args:
        control: Descriptor of a socket, from the command line.
        log: Gets a line when it is ready, and one if it cannot be.

    Returns:
        What to serve; empty when the supervisor is gone.
    """
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        log.error("cannot stand by: it has more than one thread; is OMP_NUM_THREADS above 1?", threads=threads)
        sys.exit(CANNOT_FORK)
    freeze_libraries()
    with socket.socket(fileno=control) as orders:
        log.info("standing by", worker_pid=os.getpid())
        with suppress(BrokenPipeError):
            orders.send(_READY)
        while True:
            order, descriptors, _, _ = socket.recv_fds(orders, _LONGEST_ORDER_BYTES, 1)
            if not order:
                return ""
            pid = _fork_orphan()
            if pid == 0:
                [lifeline] = descriptors
                os.dup2(lifeline, 0)
                os.close(lifeline)
                os.setsid()
                return order.decode()
            os.close(descriptors[0])
            orders.send(str(pid).encode())


def _fork_orphan() -> int:
    """Forks twice, so that the new process is nobody's child but the reaper's; gives its id, and 0 in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    there, here = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(there)
            os.close(here)
            return 0
        os.write(here, str(pid).encode())
        os._exit(0)
    os.close(here)
    os.waitpid(between, 0)
    pid = int(os.read(there, 32))
    os.close(there)
    return pid


def _adopt_orphans() -> bool:
    """Makes this process the parent of what its descendants leave behind; False where the system cannot."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
