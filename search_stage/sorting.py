"""Sorting of some hundred numbers inside kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.compiled import compiled

if TYPE_CHECKING:
    from store.types import I64, U64

_FEW = 128
"""So many are placed by counting: quadratic, but the machine compares several at once and no branch is guessed."""


@compiled
def smallest(values: I64 | U64, count: int, out: I64 | U64) -> None:
    """Writes the smallest of the first `count` values, ascending, as many as `out` holds.

    Args:
        values: All different. (n,)
        count: n at most.
        out: Another array; what is beyond `count` stays as it is. (k,)
    """
    some = values[:count]
    given = some if count <= max(_FEW, len(out)) else np.partition(some, len(out))[: len(out)]
    if len(given) > _FEW:
        ordered = np.sort(given)
        for at in range(min(len(given), len(out))):
            out[at] = ordered[at]
        return
    for at in range(len(given)):
        value, place = given[at], 0
        for other in range(len(given)):
            place += int(given[other] < value)
        if place < len(out):
            out[place] = value


@compiled
def sort_up(values: I64 | U64) -> None:
    """Sorts different values, ascending, in place."""
    smallest(values.copy(), len(values), values)


@compiled
def sort_down(values: I64 | U64) -> None:
    """Sorts different values, descending, in place."""
    sort_up(values)
    for low in range(len(values) // 2):
        high = len(values) - 1 - low
        values[low], values[high] = values[high], values[low]
