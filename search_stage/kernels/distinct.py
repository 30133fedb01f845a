"""A kernel that numbers distinct values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.compiled import kernel

if TYPE_CHECKING:
    from store.types import I64

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Of a multiplicative hash. Source: Knuth, The Art of Computer Programming, volume 3, section 6.4."""
_HASH_SHIFT = np.uint64(40)


@kernel
def number_distinct(values: I64) -> tuple[I64, I64]:
    """Numbers the distinct values in the order of their first occurrence.

    Args:
        values: 0 or more. (N,)

    Returns:
        The number of each value, (N,); where each number occurs first, (K,).
    """
    size = 16
    while size < 2 * len(values):
        size *= 2
    slots = np.full(size, -1, np.int64)
    number, first = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
    count = 0
    for at in range(len(values)):
        value = values[at]
        slot = np.int64((np.uint64(value) * _MULTIPLIER) >> _HASH_SHIFT) & (size - 1)
        while slots[slot] >= 0 and values[first[slots[slot]]] != value:
            slot = (slot + 1) & (size - 1)
        if slots[slot] < 0:
            slots[slot] = count
            first[count] = at
            count += 1
        number[at] = slots[slot]
    return number, first[:count].copy()
