"""Callers that ask a search server without a pause, and keep what came of it."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import grpc

from tests.worlds.fault_search import Caller

if TYPE_CHECKING:
    from tests.worlds.fault_search import SearchWorld


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call that got no answer."""

    caller: int
    code: grpc.StatusCode
    details: str
    request_id: str
    last_answered: str
    """Id of the caller's last request that was answered on the same connection."""


@dataclass(slots=True)
class Callers:
    """Threads that ask; a context manager that ends them. A refused call is made again, on the same connection."""

    world: SearchWorld
    address: str
    number: int
    seed: int
    name: str = ""
    """Told apart by it in the server's log."""
    num_answers: int = 0
    wrong: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    generations: set[str] = field(default_factory=set)
    times: list[tuple[float, float]] = field(default_factory=list)
    """When a call was made, and how long it took, seconds."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(self.number)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def wait_for(self, more: int) -> None:
        """Waits until so many more calls are answered."""
        give_up_s = time.monotonic() + 120
        goal = self.num_answers + more
        while self.num_answers < goal:
            assert time.monotonic() < give_up_s, (self.num_answers, self.failures[-5:])
            time.sleep(0.005)

    def took(self, since_s: float, until_s: float) -> list[float]:
        """Gives how long the calls took that were made in a span of `time.monotonic`."""
        return [took for at, took in list(self.times) if since_s <= at < until_s]

    def _ask(self, caller: int) -> None:
        rng = random.Random(self.seed + caller)
        count, last_answered = 0, ""
        with Caller(self.address) as connection:
            while not self._ended.is_set():
                number = rng.randrange(len(self.world.requests))
                count += 1
                request_id = f"{self.name}-{caller}-{count}"
                message = type(self.world.requests[number])()
                message.CopyFrom(self.world.requests[number])
                message.request_id = request_id
                started_s = time.monotonic()
                try:
                    answer = connection.search.Search(message, timeout=30)
                except grpc.RpcError as error:
                    details = error.details()
                    self.failures.append(
                        Failure(
                            caller=caller,
                            code=error.code(),
                            details=details,
                            request_id=request_id,
                            last_answered=last_answered,
                        )
                    )
                    time.sleep(0.02)
                    continue
                self.times.append((started_s, time.monotonic() - started_s))
                last_answered = request_id
                self.num_answers += 1
                self.generations.add(answer.store_generation)
                if not self.world.is_right(number, answer):
                    self.wrong.append(request_id)
