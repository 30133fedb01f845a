"""Equal rows of a table: for each row the first one that is bitwise the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.index.vectors import differing_rows, words

if TYPE_CHECKING:
    from store.types import I64, U32, U64, AnyArray

_ROWS_AT_ONCE = 1 << 14
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FOLD = np.uint64(32)


def representatives(table: AnyArray) -> U32:
    """Gives for each row the first one that is bitwise equal. Cost: O(N d + N log N).

    Rows are sorted by a hash of 64 bits, and then compared: a collision costs the slow path, never a wrong answer.

    Args:
        table: Contiguous, at least one row and one dimension. (N, d)
    """
    found = _first_equal(_hashes(table))
    for start in range(0, len(table), _ROWS_AT_ONCE):
        rows = table[start : start + _ROWS_AT_ONCE]
        at = found[start : start + len(rows)]
        repeats = np.flatnonzero(at != np.arange(start, start + len(rows)))
        if len(differing_rows(table.take(at[repeats], axis=0), rows[repeats])):
            return representatives_by_bytes(table)
    return found.astype(np.uint32)


def representatives_by_bytes(table: AnyArray) -> U32:
    """The plain twin of `representatives`: sorts the rows themselves."""
    row_type = np.dtype((np.void, table.itemsize * table.shape[1]))
    _, first, group = np.unique(table.view(row_type).ravel(), return_index=True, return_inverse=True)
    return first[group].astype(np.uint32)


def _first_equal(numbers: U64) -> I64:
    """Gives for each number the position of the first one equal to it. (N,)."""
    order = np.argsort(numbers)
    in_order = numbers[order]
    starts = np.flatnonzero(np.concatenate(([True], in_order[1:] != in_order[:-1])))
    first = np.empty(len(numbers), np.int64)
    first[order] = np.repeat(np.minimum.reduceat(order, starts), np.diff(starts, append=len(numbers)))
    return first


def _hashes(table: AnyArray) -> U64:
    hashes = np.zeros(len(table), np.uint64)
    for start in range(0, len(table), _ROWS_AT_ONCE):
        part = hashes[start : start + _ROWS_AT_ONCE]
        for column in np.ascontiguousarray(words(table[start : start + _ROWS_AT_ONCE]).T):
            part ^= column
            part *= _MULTIPLIER
            part ^= part >> _FOLD
    return hashes
