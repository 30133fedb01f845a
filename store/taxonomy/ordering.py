"""Orders rows by several integer keys at once: the sort under every arrangement of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from store.types import I64, U64, AnyArray


def stable_order(*keys: AnyArray) -> I64:
    """Gives the order of rows by several integer keys, the first one first; ties stay in order.

    A radix sort with large digits: keys are packed, last one first, beside the position of the row into words of 64
    bits, and whole words are sorted. Sorting words in place is several times as fast as `np.lexsort`, whose result this
    equals.

    Args:
        keys: At least one; signed or unsigned integers. Each (N,).
    """
    num_rows = len(keys[0])
    index_bits = max(num_rows - 1, 1).bit_length()
    index = np.arange(num_rows, dtype=np.uint64)
    order: I64 = index.view(np.int64)
    if num_rows < 2:
        return order
    is_first = True
    for digit in _digits(keys, 64 - index_bits):
        word = digit if is_first else digit[order]
        word = (word << np.uint64(index_bits)) | index
        word.sort()
        word &= np.uint64((1 << index_bits) - 1)
        position = word.view(np.int64)
        order = position if is_first else order[position]
        is_first = False
    return order


def _digits(keys: tuple[AnyArray, ...], room: int) -> list[U64]:
    """Cuts the keys, seen as one wide number a row, into digits of at most `room` bits, lowest digit first."""
    digits: list[U64] = []
    used = room
    for key in reversed(keys):
        rest = (key - key.min()).astype(np.uint64)
        bits = int(rest.max()).bit_length()
        while bits:
            if used == room:
                digits.append(np.zeros(len(rest), np.uint64))
                used = 0
            taken = min(bits, room - used)
            digits[-1] |= (rest & np.uint64((1 << taken) - 1)) << np.uint64(used)
            rest >>= np.uint64(taken)
            used += taken
            bits -= taken
    return digits
