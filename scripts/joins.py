"""Joins of columns: equal keys, and events strictly before a time; whole columns at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from store.lists import spans
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from store.types import F64, I64

NEVER = -1
"""Time of the newest event where there is none."""

DAMPING_DAYS = 30
"""Added to the days behind a rate, so that one event on the first day is not a hundred."""


def equal_pairs(wanted: I64, keys: I64) -> tuple[I64, I64]:
    """Gives a (row of `wanted`, row of `keys`) pair wherever the two are equal, by row of `wanted`.

    Args:
        wanted: (N,) int64.
        keys: (K,) int64, in any order; the rows of equal ones come in their own order.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.searchsorted(ordered, wanted)
    sizes = np.searchsorted(ordered, wanted, side="right") - first
    return np.repeat(np.arange(len(wanted)), sizes), order[spans(first, sizes)[0]]


@dataclass(frozen=True, slots=True)
class Runs:
    """The events before each question, oldest first: rows `order[start:stop]` of the events."""

    order: I64
    """(N,)"""
    start: I64
    """(Q,)"""
    stop: I64
    """(Q,)"""

    @property
    def sizes(self) -> I64:
        """Number of events before each question. (Q,)."""
        return self.stop - self.start

    def pairs(self, questions: slice) -> tuple[I64, I64]:
        """Gives a (question, row of the events) pair per event before a question, by question, oldest event first."""
        sizes = self.sizes[questions]
        first = questions.start or 0
        return np.repeat(np.arange(first, first + len(sizes)), sizes), self.order[
            spans(self.start[questions], sizes)[0]
        ]

    def chunks(self, max_pairs: int = 4_000_000) -> Iterator[slice]:
        """Gives all questions in slices of about so many pairs, so that memory does not grow with the questions."""
        ends = np.cumsum(self.sizes)
        total = int(ends[-1]) if len(ends) else 0
        cuts = np.searchsorted(ends, np.arange(max_pairs, total, max_pairs), side="right")
        return (slice(*ends) for ends in pairwise(np.unique([0, *cuts, len(ends)]).tolist()))


def runs_before(event_key: I64, event_ms: I64, query_key: I64, query_ms: I64) -> Runs:
    """Gives, per question (key, time), the events of that key strictly before that time.

    Keys are small non-negative numbers; a negative query key matches nothing. Not a mutation.
    Cost: O((events + questions) log events).

    Args:
        event_key: (N,) int64.
        event_ms: (N,) int64, in any order; equal keys and times keep theirs.
        query_key: (Q,) int64.
        query_ms: (Q,) int64.
    """
    times = np.unique(event_ms)
    width = len(times) + 1
    codes = event_key * width + np.searchsorted(times, event_ms)
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    start = np.searchsorted(codes, query_key * width)
    stop = np.searchsorted(codes, query_key * width + np.searchsorted(times, query_ms))
    return Runs(order, start, np.where(query_key >= 0, stop, start))


def count_before(event_key: I64, event_ms: I64, query_key: I64, query_ms: I64) -> tuple[I64, I64]:
    """Gives, per question (key, time), how many events of that key came strictly before that time, and the newest.

    Keys and cost: see `runs_before`.

        events     key 7 at 10, key 7 at 20, key 8 at 5
        questions  (7, 20) -> 1, 10    (7, 21) -> 2, 20    (8, 5) -> 0, -1    (-1, 99) -> 0, -1

    Args:
        event_key: (N,) int64.
        event_ms: (N,) int64, in any order.
        query_key: (Q,) int64.
        query_ms: (Q,) int64.

    Returns:
        Number of earlier events and time of the newest of them (`NEVER` = none), each (Q,) int64.
    """
    runs = runs_before(event_key, event_ms, query_key, query_ms)
    newest = np.full(len(query_key), NEVER, dtype=np.int64)
    found = runs.sizes > 0
    newest[found] = event_ms[runs.order[runs.stop[found] - 1]]
    return runs.sizes.astype(np.int64), newest


def per_100_days(count: I64 | F64, query_ms: I64, first_ms: int) -> F64:
    """Gives counts as a rate over the days since a data set began.

    A plain count grows with the calendar, so that a model trained on spring has never seen autumn's; a rate does not.

    Args:
        count: Events before `query_ms`. (Q,)
        query_ms: (Q,) int64, at or after `first_ms`.
        first_ms: When the data set began.
    """
    days = (query_ms - first_ms) / DAY_MS + DAMPING_DAYS
    return np.asarray(100.0 * count / days, dtype=np.float64)
