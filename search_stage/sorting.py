"""Sorting of some hundred numbers inside kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.compiled import compiled, compiled_into_callers, compiled_uncounted
from search_stage.vector_ops import WORD, below, num_bits

if TYPE_CHECKING:
    from store.types import I64, U32, U64

_MANY = 512
"""As `_FEW`, where 64 are compared at once."""
_FEW = 128
"""So many are placed by counting: quadratic, but the machine compares several at once and no branch is guessed."""
_LAST = np.uint32(0xFFFFFFFF)


@compiled_into_callers
def _place_of(values: U32, padded: int, value: np.uint32) -> int:
    """Counts the values that are smaller; `_pad` gave how many to look at."""
    place = 0
    for start in range(0, padded, WORD):
        place += num_bits(below(values, start, value))
    return place


@compiled_into_callers
def _pad(values: U32, count: int) -> int:
    """Fills up the values for `_place_of` behind the first `count`, and gives how many there are then."""
    padded = (count + WORD - 1) // WORD * WORD
    for at in range(count, padded):
        values[at] = _LAST
    return padded


@compiled_uncounted
def largest_down(values: U32, count: int, out: U32) -> None:
    """Writes the largest of the first `count` values, descending, as many as `out` holds.

    Args:
        values: All different and below 2**32 - 1, and room for 63 more, which is written to. (n,)
        count: n - 63 at most.
        out: Another array; what is beyond `count` stays as it is. (k,)
    """
    if count > _MANY:
        _largest_of_many_down(values, count, out)
        return
    padded = _pad(values, count)
    for at in range(count):
        place = count - 1 - _place_of(values, padded, values[at])
        if place < len(out):
            out[place] = values[at]


@compiled
def _largest_of_many_down(values: U32, count: int, out: U32) -> None:
    ordered = np.sort(values[:count])
    for at in range(min(count, len(out))):
        out[at] = ordered[count - 1 - at]


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
