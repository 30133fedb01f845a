"""Reads of users of exactly known lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts.bench.store.world import FIRST_EXACT_USER
from scripts.bench.timing import Spread, mean_us

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from store.behavior_store import BehaviorStore
    from store.reading.snapshot import Snapshot

KINDS = {
    "read": "the whole user, every byte of the record read: `user(user, check=True).columns`",
    "views": "the whole user as views, nothing but the header read: `user(user).columns`",
    "cut": "how a search begins: the same, and where a time in the middle of the history cuts it: `num_before`",
    "first": "the same in a snapshot of its own, taken and closed again",
    "newest": "a page of history: the newest 50 behaviors before that time, `user(user).history(as_of_ms, limit=50)`",
}
STEADY = ("views", "cut", "first", "newest")
"""Kinds whose time does not grow with the rows, as long as the user has no live events."""

_BUDGET_ROWS = 20_000_000
"""Kinds that are not steady are called less often for longer users: this many rows a repeat, at least 20 calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What reads cost, microseconds; by number of behaviors, in decimal."""

    snapshot_us: Spread
    """Taking a snapshot and closing it."""
    us: dict[str, dict[str, Spread]]
    """By kind of read, then by length. See `KINDS`."""


def measure_reads(
    store: BehaviorStore,
    lengths: Sequence[int],
    repeats: int,
    calls: int,
    kinds: Collection[str] = KINDS,
    steady: Collection[str] = STEADY,
) -> Reads:
    """Reads the exact users again and again, alternating between the lengths.

    Args:
        store: Holds them.
        lengths: Their numbers of behaviors.
        repeats: Number of repeats; each gives one mean.
        calls: Calls a repeat, fewer where the time grows with the rows.
        kinds: What to measure.
        steady: Kinds whose time does not grow with the rows.
    """
    taken: list[float] = []
    found: dict[str, dict[str, list[float]]] = {kind: {str(length): [] for length in lengths} for kind in kinds}
    with store.snapshot() as snapshot:
        for _ in range(repeats):
            taken.append(mean_us(lambda: store.snapshot().close(), calls))
            for length in lengths:
                few = max(min(calls, 20), min(calls, _BUDGET_ROWS // length))
                for kind, call in _calls(store, snapshot, FIRST_EXACT_USER + length).items():
                    if kind in kinds:
                        found[kind][str(length)].append(mean_us(call, calls if kind in steady else few))
    return Reads(
        snapshot_us=Spread.of(taken),
        us={kind: {key: Spread.of(values) for key, values in by.items()} for kind, by in found.items()},
    )


def _calls(store: BehaviorStore, snapshot: Snapshot, user: int) -> dict[str, Callable[[], object]]:
    columns = snapshot.user(user).columns
    as_of_ms = int(columns.timestamp_ms[columns.order[columns.num_behaviors // 2]])

    def first() -> None:
        with store.snapshot() as mine:
            mine.user(user).columns.num_before(as_of_ms)

    return {
        "read": lambda: snapshot.user(user, check=True).columns,
        "views": lambda: snapshot.user(user).columns,
        "cut": lambda: snapshot.user(user).columns.num_before(as_of_ms),
        "first": first,
        "newest": lambda: snapshot.user(user).history(as_of_ms=as_of_ms, limit=50),
    }
