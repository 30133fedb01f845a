"""Child processes that may die: started in milliseconds, told where to fail, asked how they ended.

They are forked from a server that has the store imported and `shim.c` loaded, and has opened nothing.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

KILL, TEAR, REFUSE = 1, 2, 3
"""What becomes of a call: the process dies before it; in the middle of it; it fails, as on a full or broken disk."""

_SOURCE = Path(__file__).with_name("shim.c")
_LIMIT_S = 120.0
_END = 1 << 62
_LOCK = threading.Lock()
"""Held where a child is started or its status may be read. It can be read once, and every start reads it of all others:
of two threads that did so at once, the one that came too late would put 255 in the status's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Which calls that change files below a folder fail, counted from 0, and how."""

    folder: Path
    first: int = -1
    last: int | None = None
    """Of `REFUSE`: the last call that fails; None = all from `first` on."""
    action: int = KILL
    trace: Path | None = None
    """File to list every call in."""

    def arm(self) -> None:
        trace = -1 if self.trace is None else os.open(self.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        last = _END if self.last is None else self.last
        first = self.first if self.first >= 0 else _END
        _library().fault_arm(os.fsencode(self.folder), first, last, self.action, trace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a child ended."""

    exit_code: int | None
    """Negative: the signal that it died of."""
    value: Any = None
    """What the function returned."""
    error: BaseException | None = None
    """What it raised."""
    duration_s: float = 0.0

    @property
    def done(self) -> bool:
        """Whether it came to its end and raised nothing."""
        return self.exit_code == 0 and self.error is None

    @property
    def killed(self) -> bool:
        """Whether it was killed, as it was meant to be."""
        return self.exit_code == -signal.SIGKILL

    @property
    def crashed(self) -> bool:
        """Whether it died of a signal that nobody sent."""
        return self.exit_code is not None and self.exit_code < 0 and not self.killed

    def unwrap(self) -> Any:
        """Gives what the function returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        assert self.exit_code == 0, f"the child ended with {self.exit_code}"
        return self.value


class Child:
    """A function at work in a process of its own; kill it, or wait for it."""

    def __init__(
        self, function: Callable[..., Any], *args: Any, fault: Fault | None = None, daemon: bool = True
    ) -> None:
        """Starts it, and returns when it is about to be called. One that is no daemon may have children of its own."""
        self._outcome: Outcome | None = None
        with _LOCK:
            self._end, theirs = _context().Pipe(duplex=False)
            self._process = _context().Process(target=_main, args=(theirs, fault, function, args), daemon=daemon)
            self._process.start()
        theirs.close()
        self._started_s = time.monotonic()
        try:
            assert self._end.recv() == "ready"
        except EOFError:
            raise AssertionError(f"the child died at once: {self.wait()}") from None
        self._started_s = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it is still at work."""
        with _LOCK:
            return self._process.is_alive()

    def children(self) -> list[int]:
        """Gives the ids of the processes that it has started."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def kill(self) -> Outcome:
        """Kills it now."""
        with _LOCK:
            self._process.kill()
        return self.wait()

    def kill_after(self, delay_s: float) -> Outcome:
        """Kills it so long after its start, unless it is done before."""
        self._ended(max(0.0, self._started_s + delay_s - time.monotonic()))
        return self.kill()

    def wait(self, limit_s: float = _LIMIT_S) -> Outcome:
        """Waits for its end; one that takes longer than the limit hangs, which is a failure of the test."""
        if self._outcome is None:
            sent = None
            try:
                if self._end.poll(limit_s):
                    sent = self._end.recv()
            except (EOFError, ConnectionResetError):
                pass
            if not self._ended(limit_s):
                with _LOCK:
                    self._process.kill()
                self._ended(None)
                raise AssertionError(f"the child was still at work after {limit_s} s")
            duration_s = time.monotonic() - self._started_s
            kind, what = sent or ("", None)
            self._outcome = Outcome(
                exit_code=self._process.exitcode,
                value=what if kind == "value" else None,
                error=what if kind == "error" else None,
                duration_s=duration_s,
            )
            self._end.close()
            with _LOCK:
                self._process.close()
        return self._outcome

    def _ended(self, limit_s: float | None) -> bool:
        """Waits so long for its end, and says whether it came."""
        connection.wait([self._process.sentinel], limit_s)
        return not self.alive


def run_child(function: Callable[..., Any], *args: Any, fault: Fault | None = None) -> Outcome:
    """Calls a function of a module in a child process, and waits for its end."""
    return Child(function, *args, fault=fault).wait()


def count_calls(folder: Path, function: Callable[..., Any], *args: Any) -> list[str]:
    """Calls a function in a child process, and gives every call that changed a file below a folder."""
    need_shim()
    with tempfile.NamedTemporaryFile(prefix="trace-") as trace:
        run_child(function, *args, fault=Fault(folder=folder, trace=Path(trace.name))).unwrap()
        return trace.read().decode().splitlines()


def need_shim() -> None:
    """Skips the test where calls cannot be made to fail."""
    if _library_path() is None:
        pytest.skip("no C compiler or no LD_PRELOAD here: system calls cannot be made to fail")


def _main(end: Any, fault: Fault | None, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        end.send("ready")
        if fault is not None:
            fault.arm()
        try:
            message = "value", function(*args)
        finally:
            if fault is not None:
                _library().fault_disarm()
    except BaseException as exc:
        message = "error", exc
    end.send(message)
    end.close()


@functools.cache
def _library_path() -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.uname().sysname != "Linux":
        return None
    folder = Path(tempfile.mkdtemp(prefix="fault-shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "shim.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], capture_output=True, check=False
    )
    return library if done.returncode == 0 else None


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.fault_arm.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_int)
    return library


@functools.cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "tests.fault.children",
            "tests.fault.damage",
            "tests.fault.index_jobs",
            "tests.fault.jobs",
            "tests.fault.traffic",
        ]
    )
    library = _library_path()
    if library is not None:
        os.environ["LD_PRELOAD"] = str(library)
    try:
        forkserver.ensure_running()
    finally:
        if library is not None:
            del os.environ["LD_PRELOAD"]
    return context
