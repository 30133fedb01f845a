"""Who waits, in which order, and who of them cannot be served in time any more. No threads and no clock in here.

Order: by priority, then the earliest deadline first, with a bound on how long somebody is passed by others. Source:
docs/adr/0025-admission-by-time.md, which compares it with the newest first.

Places free up one after another, so that a ticket's turn comes when what stands before it has been shared out among
them. Where somebody would end behind his deadline, somebody is refused, of his own priority and at once:

- the last ticket of the caller who holds more of the line before him than he does; else
- who has just come: nobody who waits is passed by and then sent away late; else
- himself.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADROOM = 0.7
"""Share of what is left to a request that it may spend waiting: estimates are wrong, and a line that is always as long
as it can be answers everybody just too late."""
PATIENCE_S = 0.1
"""A later deadline counts as one so far ahead: who has much time is not passed by until he has none."""
ON_THE_WAY_S = 0.002
"""From the end of the work to the caller."""


@dataclass(slots=True, eq=False, kw_only=True)
class Ticket:
    """One request that waits."""

    priority: int
    deadline_s: float
    arrived_s: float
    """Points on one clock, both."""
    cost_s: float
    """What its work will take."""
    caller: str = ""


class Line:
    """The tickets that wait for one of some places, all of which are taken. Not thread-safe."""

    def __init__(self, num_places: int, most_waiting: int) -> None:
        self._num_places = num_places
        self._most_waiting = most_waiting
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._tickets)

    @staticmethod
    def order(ticket: Ticket) -> tuple[int, float]:
        """Gives a ticket's place in the line: the smallest first, of equals the one that came first."""
        return ticket.priority, min(ticket.deadline_s, ticket.arrived_s + PATIENCE_S)

    def join(self, ticket: Ticket, now_s: float, running_s: float) -> Iterator[Ticket]:
        """Takes a ticket in; takes out and gives those that cannot be in time now, it among them or not.

        Args:
            ticket: Is to wait.
            now_s: The time.
            running_s: What one that runs takes: half of it is still to come, on average.
        """
        insort(self._tickets, ticket, key=self.order)
        before_s = running_s / 2
        ahead: list[Ticket] = []
        for each in list(self._tickets):
            ahead.append(each)
            while not _is_in_time(each, before_s, now_s):
                victim = self._victim(each, ahead, ticket)
                ahead.remove(victim)
                self._tickets.remove(victim)
                yield victim
                if victim is each:
                    break
                before_s -= victim.cost_s / self._num_places
            else:
                before_s += each.cost_s / self._num_places

    def surplus(self) -> Iterator[Ticket]:
        """Takes out the least urgent of the heaviest caller, while more wait than may."""
        while len(self._tickets) > self._most_waiting:
            least = self._tickets[-1].priority
            victim = _last_of(_heaviest(self._tickets, least)[0], self._tickets, least)
            self._tickets.remove(victim)
            yield victim

    def next(self, now_s: float) -> tuple[Ticket | None, list[Ticket]]:
        """Takes out whose turn it is; gives also those before him that it is too late for."""
        late: list[Ticket] = []
        while self._tickets:
            ticket = self._tickets.pop(0)
            if _is_in_time(ticket, 0.0, now_s):
                return ticket, late
            late.append(ticket)
        return None, late

    def leave(self, ticket: Ticket) -> None:
        """Takes out a ticket whose caller waits no longer."""
        self._tickets.remove(ticket)

    def wait_s(self, running_s: float) -> float:
        """Gives how long it takes until all that wait have had their turn."""
        return (self._num_places * running_s / 2 + sum(ticket.cost_s for ticket in self._tickets)) / self._num_places

    def _victim(self, late: Ticket, ahead: list[Ticket], newcomer: Ticket) -> Ticket:
        """Gives who is refused for somebody to be in time; `ahead` are those before him, and he himself."""
        heaviest, load_s = _heaviest(ahead, late.priority)
        if load_s[heaviest] > load_s[late.caller]:
            return _last_of(heaviest, ahead, late.priority)
        return newcomer if newcomer in ahead and newcomer.priority == late.priority else late


def _is_in_time(ticket: Ticket, before_s: float, now_s: float) -> bool:
    return now_s + before_s / HEADROOM + ticket.cost_s + ON_THE_WAY_S <= ticket.deadline_s


def _heaviest(tickets: list[Ticket], priority: int) -> tuple[str, dict[str, float]]:
    """Gives the caller with the most work of a priority, and the work of each."""
    load_s: dict[str, float] = {}
    for ticket in tickets:
        if ticket.priority == priority:
            load_s[ticket.caller] = load_s.get(ticket.caller, 0.0) + ticket.cost_s
    return max(load_s, key=load_s.__getitem__), load_s


def _last_of(caller: str, tickets: list[Ticket], priority: int) -> Ticket:
    return next(each for each in reversed(tickets) if each.priority == priority and each.caller == caller)
