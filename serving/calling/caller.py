"""Callers of a service: blocking and asyncio, with the same rules for both."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc

from serving.calling.rules import Try
from serving.errors import ClientClosedError, UnreadableAnswerError
from serving.tracing import calling
from store.errors import DeadlineExceededError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.calling.rules import Rules
    from serving.deadline import Deadline
    from serving.security.channel import Channels

R = TypeVar("R")
_CLOSED = (ValueError, grpc.aio.UsageError)
"""What a closed channel raises: one of `grpc`, one of `grpc.aio`."""


@dataclass(frozen=True, slots=True)
class Question(Generic[R]):
    """One call to make."""

    method: str
    """Name of the stub's method."""
    message: object
    read: Callable[[Any], R]
    """Makes the result of the answer's message; raises InputError for one that breaks the contract."""


class Caller:
    """Asks over some channels, used in turn; thread-safe."""

    def __init__(self, channels: Channels[Any], rules: Rules) -> None:
        self._channels = channels
        self._rules = rules

    def ask(self, question: Question[R], deadline: Deadline) -> R:
        """Makes a call, and makes it once more where the rules say so.

        Args:
            question: The call.
            deadline: Of both tries together.

        Raises:
            DeadlineExceededError: The time was spent before the call.
            CircuitOpenError: It was not made.
            grpc.RpcError: It failed.
            UnreadableAnswerError: The answer breaks the contract.
            ClientClosedError: The channels are closed.
        """
        _check_time(deadline)
        self._rules.begin()
        is_second = False
        while True:
            this = Try(time.monotonic(), deadline.remaining_s(), is_second)
            try:
                stub, metadata = self._channels.next()
                with calling(question.method) as along:
                    ask = getattr(stub, question.method)
                    answer = ask(question.message, timeout=this.given_s, metadata=(*metadata, *along))
            except grpc.RpcError as error:
                pause_s = self._rules.pause_s(error, this, deadline)
                if pause_s is None:
                    raise
            except BaseException as error:
                self._rules.given_up()
                raise _explained(error) from error
            else:
                self._rules.answered(this)
                return _read(question, answer)
            time.sleep(pause_s)
            is_second = True


class AsyncCaller:
    """As `Caller`, for one event loop."""

    def __init__(self, channels: Channels[Any], rules: Rules) -> None:
        self._channels = channels
        self._rules = rules

    async def ask(self, question: Question[R], deadline: Deadline) -> R:
        """Makes a call as `Caller.ask` does; raises what that raises."""
        _check_time(deadline)
        self._rules.begin()
        is_second = False
        while True:
            this = Try(time.monotonic(), deadline.remaining_s(), is_second)
            try:
                stub, metadata = self._channels.next()
                with calling(question.method) as along:
                    ask = getattr(stub, question.method)
                    answer = await ask(question.message, timeout=this.given_s, metadata=(*metadata, *along))
            except grpc.RpcError as error:
                pause_s = self._rules.pause_s(error, this, deadline)
                if pause_s is None:
                    raise
            except BaseException as error:
                self._rules.given_up()
                raise _explained(error) from error
            else:
                self._rules.answered(this)
                return _read(question, answer)
            await asyncio.sleep(pause_s)
            is_second = True


def _check_time(deadline: Deadline) -> None:
    if deadline.expired:
        raise DeadlineExceededError("no time was left to ask")


def _explained(error: BaseException) -> BaseException:
    return ClientClosedError("the client is closed") if isinstance(error, _CLOSED) else error


def _read(question: Question[R], answer: object) -> R:
    try:
        return question.read(answer)
    except InputError as error:
        raise UnreadableAnswerError(f"the answer cannot be read: {error}") from error
