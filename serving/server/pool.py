"""The threads that answer, and the one that does what is left to be done once an answer is on its way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent import futures
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

P = ParamSpec("P")
T = TypeVar("T")

EVERY_S = 0.02
"""How often what is left is done: all at once, so that a request is held up by none of it, nor by a thread woken up.
Under load that is half of what can be answered in time: docs/adr/0025-admission-by-time.md."""
MOST_LEFT = 10_000
"""Beyond it a thread does itself what it leaves: a log that cannot be written holds up requests, and loses no line."""

_log = logging.getLogger(__name__)


class _Thread(threading.local):
    pool: Pool | None = None
    """Of which this thread answers a call; None = of none."""


_THREAD = _Thread()


class Pool(futures.ThreadPoolExecutor):
    """Threads for a gRPC server, and one more that does what they leave to it (`afterwards`)."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="rpc")
        self._busy = 0
        self._lock = threading.Lock()
        self._left: deque[Callable[[], object]] = deque()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._do_what_is_left, name="afterwards", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> int:
        """How many functions run, or wait for a thread."""
        return self._busy

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Runs a function in one of the threads."""
        with self._lock:
            self._busy += 1
        return super().submit(self._run, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the threads; what they left is done first, where they are waited for."""
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        self._ends.set()
        self._thread.join(None if wait else EVERY_S)

    def leave(self, task: Callable[[], object]) -> None:
        """Has a task done soon; by this thread where too much is left already."""
        if len(self._left) < MOST_LEFT:
            self._left.append(task)
        else:
            task()

    def _run(self, function: Callable[..., T], args: Sequence[object], kwargs: Mapping[str, object]) -> T:
        _THREAD.pool = self
        try:
            return function(*args, **kwargs)
        finally:
            _THREAD.pool = None
            with self._lock:
                self._busy -= 1

    def _do_what_is_left(self) -> None:
        ends = False
        while not ends:
            ends = self._ends.wait(EVERY_S)
            while self._left:
                try:
                    self._left.popleft()()
                except Exception:
                    _log.exception("what an answer left to be done failed")


def afterwards(task: Callable[[], object]) -> None:
    """Has a task done when what this thread does for a `Pool` is on its way; at once in any other thread."""
    if _THREAD.pool is None:
        task()
    else:
        _THREAD.pool.leave(task)
