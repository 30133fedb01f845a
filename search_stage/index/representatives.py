"""Equal rows of a table: for each row the first one that is bitwise the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.index.vectors import words
from search_stage.kernels.vector_ops import prefetch
from store.compiled import kernel, read_only

if TYPE_CHECKING:
    from store.types import U32, U64, AnyArray

_ROWS_AT_ONCE = 64
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FOLD = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)


def representatives(table: AnyArray) -> U32:
    """Gives for each row the first one that is bitwise equal. Expected cost: O(N d).

    Rows are looked up by a hash, and then compared: a collision costs time, never a wrong answer.

    Args:
        table: Contiguous, at least one row and one dimension. (N, d)
    """
    first = np.empty(len(table), np.uint32)
    slots = np.zeros((1 << (2 * len(table) - 1).bit_length(), 1), np.uint64)
    _find_first(read_only(words(table)), slots, first)
    return first


def representatives_by_bytes(table: AnyArray) -> U32:
    """The plain twin of `representatives`: sorts the rows themselves."""
    row_type = np.dtype((np.void, table.itemsize * table.shape[1]))
    _, first, group = np.unique(table.view(row_type).ravel(), return_index=True, return_inverse=True)
    return first[group].astype(np.uint32)


@kernel
def _find_first(rows: AnyArray, slots: U64, first: U32) -> None:
    """Writes the first row equal to each one.

    A slot holds the upper half of a row's hash, and one more than its number; 0 = empty. A row stands in the slot that
    the lower half of its hash says, or in the next one that was empty.

    Args:
        rows: Words of each row. (N, w)
        slots: Zeros, a power of two of them, 2 N at least. Mutated. (slots, 1)
        first: Mutated. (N,)
    """
    mask = np.uint64(len(slots) - 1)
    hashes = np.empty(_ROWS_AT_ONCE, np.uint64)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, len(rows) - start)
        for at in range(count):
            value = np.uint64(0)
            for column in range(rows.shape[1]):
                value = (value ^ rows[start + at, column]) * _MULTIPLIER
                value ^= value >> _FOLD
            hashes[at] = value
            prefetch(slots, (int(value & mask), 0))
        for at in range(count):
            row, tag, place = start + at, hashes[at] & ~_LOW, hashes[at] & mask
            first[row] = row
            while slots[place, 0] != 0:
                other = np.int64(slots[place, 0] & _LOW) - 1
                if slots[place, 0] & ~_LOW == tag and np.array_equal(rows[other], rows[row]):
                    first[row] = other
                    break
                place = (place + _ONE) & mask
            else:
                slots[place, 0] = tag | np.uint64(row + 1)
