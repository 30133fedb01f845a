"""What to do after a call that failed: the rules that the blocking and the asyncio caller share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import grpc

from serving.calling.budget import RetryBudget

if TYPE_CHECKING:
    from serving.calling.circuit import Circuit
    from serving.deadline import Deadline

PUSHBACK = "grpc-retry-pushback-ms"
_NO_ANSWER = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN}


class CallObserver(Protocol):
    """Is told of every call."""

    def called(self, code: grpc.StatusCode) -> None:
        """Notes how a call ended, retries included."""
        ...

    def retried(self, *, sent: bool) -> None:
        """Notes that a call could be made again, and whether the budget allowed it."""
        ...


def as_call(error: grpc.RpcError) -> grpc.Call:
    """Gives the call that failed: grpc raises one object that is both, and its types say only the one."""
    assert isinstance(error, (grpc.Call, grpc.aio.AioRpcError))
    return error  # type: ignore[return-value]


def pushback_ms(error: grpc.RpcError) -> int | None:
    """Gives when a server that refused a call says to come again; None = it does not say."""
    for key, value in as_call(error).trailing_metadata() or ():
        if key == PUSHBACK and str(value).isdecimal():
            return int(value)
    return None


class Try(NamedTuple):
    """One of the one or two that a call has."""

    started_s: float
    """Point of `time.monotonic`."""
    given_s: float
    is_second: bool


@dataclass(slots=True, kw_only=True)
class Rules:
    """One client's rules; thread-safe.

    A call is made a second time, over the next connection, if the first found nobody there (UNAVAILABLE), or if the
    server refused it (RESOURCE_EXHAUSTED) with a time to come again that leaves time for an answer. A call that ran out
    of time is not made again: nothing is left of it.
    """

    circuit: Circuit | None = None
    """None = every call is made."""
    observer: CallObserver | None = None
    budget: RetryBudget

    def begin(self) -> None:
        """Notes a call.

        Raises:
            CircuitOpenError: It is not to be made.
        """
        if self.circuit is not None:
            self.circuit.enter()
        self.budget.earn()

    def answered(self, try_: Try) -> None:
        """Notes an answer."""
        self._note(grpc.StatusCode.OK, try_)

    def given_up(self) -> None:
        """Notes that a call ended without any outcome."""
        if self.circuit is not None:
            self.circuit.given_up()

    def pause_s(self, error: grpc.RpcError, try_: Try, deadline: Deadline) -> float | None:
        """Notes a try that failed; gives how long to wait before the next one, None = there is to be none."""
        code = as_call(error).code()
        self._note(code, try_)
        if try_.is_second:
            return None
        if code is grpc.StatusCode.UNAVAILABLE:
            pause_s = 0.0
        elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and (pushback := pushback_ms(error)) is not None:
            pause_s = pushback / 1000
        else:
            return None
        if deadline.remaining_s() <= 2 * pause_s:
            return None
        sent = self.budget.spend()
        if self.observer is not None:
            self.observer.retried(sent=sent)
        return pause_s if sent else None

    def _note(self, code: grpc.StatusCode, try_: Try) -> None:
        if self.observer is not None:
            self.observer.called(code)
        if self.circuit is None:
            return
        if code not in _NO_ANSWER:
            self.circuit.answered(time.monotonic() - try_.started_s if code is grpc.StatusCode.OK else None)
        else:
            self.circuit.failed(try_.given_s if code is grpc.StatusCode.DEADLINE_EXCEEDED else None)
