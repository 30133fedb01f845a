"""The threads that answer, and what they do once an answer is on its way."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

P = ParamSpec("P")
T = TypeVar("T")


class _Thread(threading.local):
    later: list[Callable[[], object]] | None = None
    """What is left to be done; None = this thread answers no call."""


_THREAD = _Thread()


class Pool(futures.ThreadPoolExecutor):
    """Threads for a gRPC server: a task of theirs ends when its answer has been handed to gRPC, not before."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Runs a function in one of the threads, and then what it left to be done (`afterwards`)."""
        return super().submit(_run, fn, args, kwargs)


def afterwards(task: Callable[[], object]) -> None:
    """Has a task done by this thread when what it does now for a `Pool` is done; at once in any other thread."""
    if _THREAD.later is None:
        task()
    else:
        _THREAD.later.append(task)


def _run(function: Callable[..., T], args: Sequence[object], kwargs: Mapping[str, object]) -> T:
    later: list[Callable[[], object]] = []
    _THREAD.later = later
    try:
        return function(*args, **kwargs)
    finally:
        _THREAD.later = None
        for task in later:
            task()
