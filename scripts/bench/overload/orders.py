"""Which order of waiting answers most in time: simulated, so that time costs nothing and both see the same requests."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from serving.server.line import Line, Ticket
from serving.server.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLACES = 4
MOST_WAITING = 64
MEAN_S = 0.016
"""Of a request's work while four run: a capacity of 250 a second."""
DEADLINES_S = (0.05, 0.05, 0.05, 0.25)
"""Three of four callers are in a hurry."""
GUESS_SIGMA = 0.4
"""Spread of the true time about what the units say, of its logarithm."""
SIZE_SIGMA = 0.7
"""Spread of the units, of their logarithm."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Request(Ticket):
    takes_s: float
    units: float


class NewestFirst(Line):
    """The line with the other order."""

    @staticmethod
    def order(ticket: Ticket) -> tuple[int, float]:
        """Gives the newest the first place."""
        return ticket.priority, -ticket.arrived_s

    def _victim(self, late: Ticket, ahead: list[Ticket], newcomer: Ticket) -> Ticket:
        return late


class FirstCome(Line):
    """As it was: nobody is refused but for want of room."""

    @staticmethod
    def order(ticket: Ticket) -> tuple[int, float]:
        """Gives the oldest the first place."""
        return ticket.priority, ticket.arrived_s

    def join(self, ticket: Ticket, now_s: float, running_s: float) -> Iterator[Ticket]:
        """Takes everybody in."""
        self._tickets.append(ticket)
        return iter(())

    def next(self, now_s: float) -> tuple[Ticket | None, list[Ticket]]:
        """Gives the oldest whose deadline has not passed."""
        late: list[Ticket] = []
        while self._tickets:
            ticket = self._tickets.pop(0)
            if ticket.deadline_s > now_s:
                return ticket, late
            late.append(ticket)
        return None, late


ORDERS = {"earliest deadline first": Line, "newest first": NewestFirst, "first come, no estimate": FirstCome}


class OrderRow(TypedDict):
    """One order at one load."""

    order: str
    load: float
    """Arrivals over capacity."""
    goodput: float
    """Answers in time over capacity."""
    answered_p50_ms: float
    refused_p99_ms: float
    """From the arrival of a request to its refusal."""
    late: float
    """Worked for in vain, over capacity."""


def compare_orders(loads: Sequence[float], seconds: float, seed: int) -> Iterator[OrderRow]:
    """Gives a row for every order and load; all orders see the same arrivals."""
    for load in loads:
        for name, kind in ORDERS.items():
            yield _simulate(name, kind(PLACES, MOST_WAITING), load, seconds, np.random.default_rng(seed))


def _simulate(name: str, line: Line, load: float, seconds: float, rng: np.random.Generator) -> OrderRow:
    capacity = PLACES / MEAN_S
    count = int(load * capacity * seconds)
    arrivals_s = np.sort(rng.uniform(0, seconds, count))
    units = np.exp(rng.normal(-(SIZE_SIGMA**2) / 2, SIZE_SIGMA, count))
    takes_s = MEAN_S * units * np.exp(rng.normal(-(GUESS_SIGMA**2) / 2, GUESS_SIGMA, count))
    deadlines_s = rng.choice(DEADLINES_S, count)
    pace, mean_s = Pace(), 0.0
    running: list[tuple[float, int, _Request]] = []
    answered, refused_after, late = [], [], 0
    for number in range(count):
        now_s = float(arrivals_s[number])
        while running and running[0][0] <= now_s:
            ended_s, _, done = heapq.heappop(running)
            pace.learn(done.units, done.takes_s)
            mean_s += 0.05 * (done.takes_s - mean_s)
            late += ended_s > done.deadline_s
            answered += [ended_s - done.arrived_s] if ended_s <= done.deadline_s else []
            ticket, given_up = line.next(ended_s)
            refused_after += [ended_s - each.arrived_s for each in given_up if isinstance(each, _Request)]
            if isinstance(ticket, _Request):
                heapq.heappush(running, (ended_s + ticket.takes_s, number, ticket))
        request = _Request(
            priority=0,
            deadline_s=now_s + float(deadlines_s[number]),
            cost_s=pace.seconds(float(units[number])),
            caller="",
            arrived_s=now_s,
            takes_s=float(takes_s[number]),
            units=float(units[number]),
        )
        if len(running) < PLACES:
            heapq.heappush(running, (now_s + request.takes_s, number, request))
            continue
        out = [*line.join(request, now_s, mean_s), *line.surplus()]
        refused_after += [now_s - each.arrived_s for each in out if isinstance(each, _Request)]
    return OrderRow(
        order=name,
        load=load,
        goodput=len(answered) / (capacity * seconds),
        answered_p50_ms=1000 * float(np.median(answered)) if answered else float("nan"),
        refused_p99_ms=1000 * float(np.percentile(refused_after, 99)) if refused_after else 0.0,
        late=late / (capacity * seconds),
    )
