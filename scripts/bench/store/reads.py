"""Reads of users of exactly known lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scripts.bench.store.world import FIRST_EXACT_USER
from scripts.bench.timing import Spread, mean_us

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from store.behavior_store import BehaviorStore, Snapshot

KINDS = {
    "read": "the whole user, every byte of the record read: `columns(user, check=True)`",
    "views": "the whole user as views, nothing but the header read: `columns(user)`",
    "subtree": "where the behaviors under one node stand, of the user asked for last: `subtree(user, node)`",
    "first": "the same of a user asked for the first time: a snapshot, one `subtree(user, node)`, closed again",
    "newest": "and the newest 50 of them: `.rows(limit=50)`",
}
STEADY = ("views", "subtree", "first")
"""Kinds whose time does not grow with the rows, as long as the user has no live events."""

_SHARE = 0.03
"""Of a user's behaviors: the node is the one that comes nearest."""
_BUDGET_ROWS = 20_000_000
"""Kinds that are not steady are called less often for longer users: about so many rows a repeat, at least 20 calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What reads cost, microseconds; by number of behaviors, in decimal."""

    snapshot_us: Spread
    """Taking a snapshot and closing it."""
    us: dict[str, dict[str, Spread]]
    """By kind of read, then by length. See `KINDS`."""
    subtree_rows: dict[str, int]
    """Behaviors under the node."""


def measure_reads(
    store: BehaviorStore,
    lengths: Sequence[int],
    repeats: int,
    calls: int,
    kinds: Collection[str] = KINDS,
    steady: Collection[str] = STEADY,
) -> Reads:
    """Reads the exact users again and again, lengths by turns.

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
        node = find_node(snapshot, FIRST_EXACT_USER + max(lengths))
        rows = {str(length): len(snapshot.subtree(FIRST_EXACT_USER + length, node)) for length in lengths}
        for _ in range(repeats):
            taken.append(mean_us(lambda: store.snapshot().close(), calls))
            for length in lengths:
                for kind in kinds:
                    call = _call(kind, store, snapshot, FIRST_EXACT_USER + length, node)
                    times = calls if kind in steady else max(min(calls, 20), min(calls, _BUDGET_ROWS // length))
                    found[kind][str(length)].append(mean_us(call, times))
    return Reads(
        snapshot_us=Spread.of(taken),
        us={kind: {key: Spread.of(values) for key, values in by.items()} for kind, by in found.items()},
        subtree_rows=rows,
    )


def find_node(snapshot: Snapshot, user: int) -> int:
    """Gives the category whose subtree holds about 3 % of a user's behaviors."""
    taxonomy, node = snapshot.taxonomy, np.sort(snapshot.columns(user).node)
    starts = np.flatnonzero(~taxonomy.is_item)
    held = np.searchsorted(node, taxonomy.end[starts]) - np.searchsorted(node, starts)
    return int(starts[np.argmin(np.abs(held - _SHARE * len(node)))])


def _call(kind: str, store: BehaviorStore, snapshot: Snapshot, user: int, node: int) -> Callable[[], object]:
    def first() -> None:
        with store.snapshot() as mine:
            mine.subtree(user, node)

    calls: dict[str, Callable[[], object]] = {
        "read": lambda: snapshot.columns(user, check=True),
        "views": lambda: snapshot.columns(user),
        "subtree": lambda: snapshot.subtree(user, node),
        "first": first,
        "newest": lambda: snapshot.subtree(user, node).rows(limit=50),
    }
    return calls[kind]
