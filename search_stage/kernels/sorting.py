"""Sorting of some hundred numbers inside kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.kernels.vector_ops import count_below
from search_stage.kernels.widths import PLACES
from store.compiled import kernel, kernel_no_refcount

if TYPE_CHECKING:
    from store.types import I64, U32, U64

_MANY = 512
"""As `_FEW`, where `PLACES` are placed at once."""
PLACES_ROOM = 2 * _MANY
"""Numbers that `largest_down` works in."""
_FEW = 128
"""Up to this many are placed by counting: quadratic, but several are compared at once and no branch is guessed."""
_LAST = np.uint32(0xFFFFFFFF)


@kernel_no_refcount
def largest_down(values: U32, count: int, positions: U32, out: U32) -> None:
    """Writes the largest of the first `count` values, descending, as many as `out` holds.

    Args:
        values: All different and below 2**32 - 1, and room for `PLACES` more, which is written to. (n,)
        count: n - `PLACES` at most.
        positions: Scratch buffer. (`PLACES_ROOM`,)
        out: Another array; what is beyond `count` stays as it is. (k,)
    """
    if count > _MANY:
        _largest_of_many_down(values, count, out)
        return
    padded, ordered = (count + PLACES - 1) // PLACES * PLACES, positions[_MANY:]
    for at in range(count, padded):
        values[at] = _LAST
    for start in range(0, padded, PLACES):
        count_below(values, count, start, positions)
    for at in range(count):
        ordered[count - 1 - np.int64(positions[at])] = values[at]
    for at in range(min(count, len(out))):
        out[at] = ordered[at]


@kernel
def _largest_of_many_down(values: U32, count: int, out: U32) -> None:
    ordered = np.sort(values[:count])
    for at in range(min(count, len(out))):
        out[at] = ordered[count - 1 - at]


@kernel
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


@kernel
def sort_up(values: I64 | U64) -> None:
    """Sorts different values, ascending, in place."""
    smallest(values.copy(), len(values), values)


@kernel
def sort_down(values: I64 | U64) -> None:
    """Sorts different values, descending, in place."""
    sort_up(values)
    for low in range(len(values) // 2):
        high = len(values) - 1 - low
        values[low], values[high] = values[high], values[low]
