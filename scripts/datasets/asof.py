"""Counts of events strictly before a time, vectorised over millions of questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from store.types import I64

NEVER = -1
"""Time of the newest event where there is none."""


def count_before(event_key: I64, event_ms: I64, query_key: I64, query_ms: I64) -> tuple[I64, I64]:
    """Gives, per question (key, time), how many events of that key came strictly before that time, and the newest.

    Keys are small non-negative numbers; a negative query key matches nothing. Not a mutation.
    Cost: O((events + questions) log events).

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
    times = np.unique(event_ms)
    width = len(times) + 1
    codes = event_key * width + np.searchsorted(times, event_ms)
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    start = np.searchsorted(codes, query_key * width)
    stop = np.searchsorted(codes, query_key * width + np.searchsorted(times, query_ms))
    count = np.where(query_key >= 0, stop - start, 0)
    newest = np.full(len(query_key), NEVER, dtype=np.int64)
    found = count > 0
    newest[found] = event_ms[order[stop[found] - 1]]
    return count.astype(np.int64), newest
