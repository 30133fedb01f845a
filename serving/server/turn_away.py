"""How a server turns away what it has no thread for: gRPC's own thread does, which waits for nothing and reads nothing.

A request that gets a thread only to hear no costs as much as half a search while searches run, for each time that it
gives the interpreter away: docs/adr/0025-admission-by-time.md.
"""

from __future__ import annotations

from concurrent import futures
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class _Here(futures.ThreadPoolExecutor):
    """Does at once what it is given, in the thread that gives it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        future: futures.Future[T] = futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _TurnAway:
    experimental_thread_pool = _Here(1)
    """By this attribute gRPC lets a method have threads of its own."""

    def __init__(self, refuse: Callable[[grpc.ServicerContext], object]) -> None:
        self._refuse = refuse

    def __call__(self, _: object, context: grpc.ServicerContext) -> object:
        return self._refuse(context)


def turning_away(refuse: Callable[[grpc.ServicerContext], object]) -> Any:  # noqa: ANN401 -- gRPC leaves it open
    """Gives the handler of a method that only refuses, for a method of any kind.

    Args:
        refuse: Aborts the call. gRPC takes in no other call meanwhile.
    """
    # One that takes a stream waits for no message.
    return grpc.stream_unary_rpc_method_handler(_TurnAway(refuse))
