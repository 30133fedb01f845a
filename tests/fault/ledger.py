"""What a store must hold, by what was acknowledged; compared with what it gives after each fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.worlds import fault_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.fault.jobs import Found
    from tests.fault.tally import Tally

MAX_OPEN_S = 1.0
"""A store reopens under a second after whatever happened to it."""


class Ledger:
    """Events that a store holds and users that were deleted, carried from one fault to the next."""

    def __init__(self, numbers) -> None:
        self.held = np.asarray(numbers, np.uint64)
        self.deleted: set[int] = set()

    @property
    def next_number(self) -> int:
        """The first number that nobody ever used; numbers of calls that failed may be used again, or not."""
        return int(self.held.max(initial=0)) + 10_000

    def settle(self, tally: Tally, found: Found, *journals: Path) -> None:
        """Compares what was found with what may be there, counts what is not as it must be, and goes on from it.

        Args:
            tally: Takes the counts.
            found: What the store gave.
            journals: What writers did since the last time, until they were killed.
        """
        must, whole, deleted, perhaps = _read(journals)
        now_deleted = set(found.deleted)
        tally.lost += len(self.deleted - now_deleted) + len(deleted - now_deleted)  # a deletion is an event too
        tally.corrupt += len(now_deleted - self.deleted - deleted - perhaps)
        must = self._alive(np.union1d(self.held, must), now_deleted)
        numbers = np.unique(found.numbers)
        tally.corrupt += found.wrong + len(found.numbers) - len(numbers)
        tally.lost += len(np.setdiff1d(must, numbers))
        extra = np.setdiff1d(numbers, must)
        for group in whole:  # what was under way is there as a whole, or not at all
            group = self._alive(group, now_deleted)
            came = np.isin(group, numbers)
            tally.corrupt += bool(came.any() and not came.all())
            extra = np.setdiff1d(extra, group)
        tally.corrupt += len(extra)
        assert found.open_s < MAX_OPEN_S, f"it took {found.open_s:.2f} s of CPU to open the store again"
        self.held = numbers
        self.deleted = now_deleted

    @staticmethod
    def _alive(numbers, deleted: set[int]):
        return numbers[~np.isin(fault_store.users_of(numbers), list(deleted))] if len(deleted) else numbers


def _read(journals: Sequence[Path]):
    """Gives what was acknowledged, what was under way, who was deleted, and who was being deleted."""
    tasks: dict[str, tuple[str, list[int]]] = {}
    must = [np.empty(0, np.uint64)]
    deleted: set[int] = set()
    for line in "".join(path.read_text() for path in journals if path.exists()).splitlines():
        kind, task, *rest = line.split()
        if kind != "!":
            tasks[task] = kind, [int(word) for word in rest]
            continue
        done, numbers = tasks.pop(task)
        if done == "+":
            must.append(np.arange(*numbers, dtype=np.uint64))
        else:
            deleted.add(numbers[0])
    whole = [np.arange(*numbers, dtype=np.uint64) for kind, numbers in tasks.values() if kind == "+"]
    perhaps = {numbers[0] for kind, numbers in tasks.values() if kind == "-"}
    return np.concatenate(must), whole, deleted, perhaps
