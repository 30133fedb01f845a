"""Sends a plan from several processes, each an asyncio loop, and notes what became of every request.

The time of a request counts from when it was due. Where a sender comes late itself, that is part of the request's time,
and `lag_s` tells how much of it.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
import numpy as np

from protos.lookback.ranking.v1 import ranking_pb2
from scripts.load.plan import METHODS
from serving.options import PLAIN
from serving.security.channel import Channels, read_secrets
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scripts.load.plan import Plan
    from serving.options import ClientSecurity
    from store.types import F64, U8

DEGRADED, UNSENT = 17, 18
OUTCOMES = (*(code.name for code in grpc.StatusCode), "DEGRADED", "UNSENT")
"""gRPC's codes by number, OK first; DEGRADED = OK without the user's history; UNSENT = due longer ago than the
deadline when its sender came to it."""
OK, REFUSED = 0, 8
LEAD_S = 0.5
"""From when all senders are connected to the begin."""
SAMPLE_S = 1.0
_METHODS = tuple(METHODS)
_CODES = {code: code.value[0] for code in grpc.StatusCode}
_MOST_REASONS = 50
_START_S = 60.0
"""For processes to start, on a busy machine."""
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else all channels to an address share a connection
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to ask, and how."""

    addresses: Mapping[str, str]
    """Host and port, by method."""
    deadline_s: float
    connections: int
    """Of each sender to each address: a connection stays with one worker of a server."""
    patience_s: float = 20.0
    """For all senders to be connected."""
    security: ClientSecurity = PLAIN
    """How to know the services, and how to be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the requests of a plan, in its order."""

    result: U8
    """Position in `OUTCOMES`. (N,)"""
    latency_s: F64
    """From when it was due to the answer. (N,)"""
    lag_s: F64
    """From when it was due to when it was sent. (N,)"""
    hinted: U8
    """1 where a refusal said when to come again. (N,)"""
    reasons: Mapping[str, int]
    """How often each text stood beside a result that is no OK."""


def send(plan: Plan, target: Target, processes: int, sample: Callable[[float], object]) -> Outcome:
    """Sends a plan.

    Args:
        plan: What, and when.
        target: Whom to ask.
        processes: Senders; each takes every so-many-th request.
        sample: Called about every `SAMPLE_S` meanwhile with the seconds since the begin.

    Raises:
        InputError: An address does not answer; names it.
    """
    context = get_context("spawn")
    ready, begin_s = context.Barrier(processes + 1), context.Value("d", 0.0)
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_share, initargs=(ready, begin_s)) as pool:
        jobs = [pool.submit(_send_share, plan.share(number, processes), target) for number in range(processes)]
        try:
            ready.wait(_START_S + 2 * target.patience_s)
            begin_s.value = time.monotonic() + LEAD_S
        except threading.BrokenBarrierError:
            raise next(error for job in jobs if isinstance(error := job.exception(), InputError)) from None
        while not all(job.done() for job in jobs):
            sample(time.monotonic() - begin_s.value)
            time.sleep(SAMPLE_S)
        return _joined(len(plan), [job.result() for job in jobs])


def _joined(count: int, parts: Sequence[Outcome]) -> Outcome:
    columns: dict[str, Any] = {}
    for name in ("result", "latency_s", "lag_s", "hinted"):
        columns[name] = np.empty(count, getattr(parts[0], name).dtype)
        for number, part in enumerate(parts):
            columns[name][number :: len(parts)] = getattr(part, name)
    reasons = sum((Counter(part.reasons) for part in parts), Counter())
    return Outcome(**columns, reasons=dict(reasons.most_common(_MOST_REASONS)))


class _Shared:
    """What a sender's process was given when it started."""

    ready: ClassVar[Any]
    begin_s: ClassVar[Any]


def _share(ready: object, begin_s: object) -> None:
    _Shared.ready, _Shared.begin_s = ready, begin_s


def _send_share(plan: Plan, target: Target) -> Outcome:
    # Of the selectors this one alone waits for less than whole milliseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        try:
            return runner.run(_Sender(plan, target).run())
        except InputError:
            _Shared.ready.abort()
            raise


class _Sender:
    def __init__(self, plan: Plan, target: Target) -> None:
        self._plan = plan
        self._target = target
        self._due_s = plan.due_s.tolist()
        self._begin_s = 0.0
        self._reasons: Counter[str] = Counter()
        self._metadata = read_secrets(target.security).metadata
        self._outcome = Outcome(
            result=np.full(len(plan), UNSENT, np.uint8),
            latency_s=np.zeros(len(plan)),
            lag_s=np.zeros(len(plan)),
            hinted=np.zeros(len(plan), np.uint8),
            reasons=self._reasons,
        )

    async def run(self) -> Outcome:
        channels = self._channels()
        await _connect(channels, self._target.patience_s)
        calls = [
            [channel.unary_unary(path) for channel in channels[self._target.addresses[name]]]
            if name in self._target.addresses
            else []
            for name, path in METHODS.items()
        ]
        await self._wait_for_begin()
        try:
            await self._send_all(calls)
        finally:
            await asyncio.gather(*(channel.close() for each in channels.values() for channel in each))
        return self._outcome

    def _channels(self) -> dict[str, list[grpc.aio.Channel]]:
        count, security = self._target.connections, self._target.security
        known = {
            address: Channels(
                address, lambda channel: channel, security, options=_OPTIONS, count=count, library=grpc.aio
            )
            for address in set(self._target.addresses.values())
        }
        return {address: [each.next()[0] for _ in range(count)] for address, each in known.items()}

    async def _wait_for_begin(self) -> None:
        await asyncio.get_running_loop().run_in_executor(
            None, _Shared.ready.wait, _START_S + 2 * self._target.patience_s
        )
        while not (begin_s := _Shared.begin_s.value):
            await asyncio.sleep(0.001)
        self._begin_s = begin_s

    async def _send_all(self, calls: Sequence[Sequence[Any]]) -> None:
        method = self._plan.method.tolist()
        running: set[asyncio.Task[None]] = set()
        for row, due_s in enumerate(self._due_s):
            ahead_s = self._begin_s + due_s - time.monotonic()
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            elif row % 16 == 0:
                await asyncio.sleep(0)  # late: answers must be taken all the same
            stubs = calls[method[row]]
            task = asyncio.create_task(self._ask(row, stubs[row % len(stubs)]))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _ask(self, row: int, call: Any) -> None:  # noqa: ANN401 (grpc has no type for it)
        outcome, due_s = self._outcome, self._begin_s + self._due_s[row]
        lag_s = time.monotonic() - due_s
        outcome.lag_s[row] = lag_s
        result, text = UNSENT, ""
        if lag_s < self._target.deadline_s:
            try:
                left_s = self._target.deadline_s - lag_s
                answer = await call(self._plan.message(row), timeout=left_s, metadata=self._metadata)
                result, text = _read(_METHODS[self._plan.method[row]], answer)
            except grpc.aio.AioRpcError as error:
                result, text = _CODES[error.code()], error.details() or ""
                outcome.hinted[row] = any(key == "grpc-retry-pushback-ms" for key, _ in error.trailing_metadata())
        outcome.latency_s[row] = time.monotonic() - due_s
        outcome.result[row] = result
        if result != OK and len(self._reasons) < _MOST_REASONS:
            self._reasons[f"{OUTCOMES[result]}: {text[:200]}"] += 1


def _read(method: str, answer: bytes) -> tuple[int, str]:
    """Gives what an answer is worth, and why if it is degraded."""
    if method == "rank":
        message = ranking_pb2.RankResponse.FromString(answer)
        if message.degraded:
            return DEGRADED, message.degraded_reason
    return OK, ""


async def _connect(channels: Mapping[str, Sequence[grpc.aio.Channel]], patience_s: float) -> None:
    for address, several in channels.items():
        try:
            await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in several)), patience_s)
        except TimeoutError:
            raise InputError(f"{address} does not answer; is a service up there?") from None
