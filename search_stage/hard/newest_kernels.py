"""Kernels that find the newest rows of some ranges of a history."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.kernels.sorting import largest_down
from search_stage.kernels.vector_ops import below, lowest_bit
from search_stage.kernels.widths import WORD
from store.compiled import kernel_no_refcount

if TYPE_CHECKING:
    from store.types import I64, U16, U32, Bool

SPARE = 2 * WORD
"""Room beyond four times the answer."""
_STEP_COST = 12
"""A step of a walk through the time order, in rows of a scan."""
_ONE = np.uint64(1)
_EVERY_BIT = ~np.uint64(0)


class Rows(NamedTuple):
    """Which of a user's rows one domain's policy lets pass."""

    rank: U32
    """Position of each row in the time order. (N,)"""
    order: U32
    """Its inverse. (N,)"""
    scene: U16
    """Code of each row, (N,), or empty where every scene passes."""
    passing_scene: Bool
    """By scene code; empty = every scene passes."""
    first: int
    """Rows at or after this position in the time order."""
    cut: int
    """And before this one."""


@kernel_no_refcount
def newest_rows(rows: Rows, lows: I64, highs: I64, scratch: U32, positions: U32, out: U32) -> int:
    """Finds the newest rows of some ranges; writes their ranks, newest first, and gives their number.

    Rows are looked at one by one, and those that are likely to be among the newest are sorted. Where rows are many they
    are a large part of all, and a walk through the time order from its end meets enough of them soon.

    Args:
        rows: The rows.
        lows: First row of each range. (R,)
        highs: End of each range. (R,)
        scratch: Room for `4 * len(out) + SPARE` ranks.
        positions: See `sorting.largest_down`.
        out: As long as the answer may be, 1 or more.
    """
    total, quota = 0, len(out)
    for part in range(len(lows)):
        total += highs[part] - lows[part]
    if 2 * total <= 3 * quota:
        return min(_scan(rows, lows, highs, rows.first, scratch, positions, out), quota)
    span = rows.cut - rows.first
    if _STEP_COST * quota * span < total * total:
        return _walk(rows, lows, highs, out)
    # Were the rows spread evenly over time, one and a half times the quota would be in this window.
    window = 1 + 5 * quota * span // (4 * total)
    while True:
        first = max(rows.cut - window, rows.first)
        count = _scan(rows, lows, highs, first, scratch, positions, out)
        if count >= quota or first == rows.first:
            return min(count, quota)
        window *= 4


@kernel_no_refcount
def _walk(rows: Rows, lows: I64, highs: I64, out: U32) -> int:
    count, every_scene = 0, len(rows.passing_scene) == 0
    for at in range(rows.cut - 1, rows.first - 1, -1):
        row = np.int64(rows.order[at])
        for part in range(len(lows)):
            if lows[part] <= row < highs[part]:
                if every_scene or rows.passing_scene[rows.scene[row]]:
                    out[count] = at
                    count += 1
                break
        if count == len(out):
            break
    return count


@kernel_no_refcount
def _scan(rows: Rows, lows: I64, highs: I64, first: int, scratch: U32, positions: U32, out: U32) -> int:
    """Writes the newest rows at or after a position in the time order; gives how many there were, in part dropped."""
    count, dropped, least, quota = 0, 0, np.int64(first), len(out)
    is_cut = rows.cut < len(rows.rank)
    for part in range(len(lows)):
        end = highs[part]
        for start in range(lows[part], end, WORD):
            before = count
            stop = min(start + WORD, end)
            base = max(stop - WORD, 0)
            if base + WORD <= len(rows.rank):
                word = ~below(rows.rank, base, np.uint32(least)) & _EVERY_BIT << np.uint64(start - base)
                if is_cut:
                    word &= below(rows.rank, base, np.uint32(rows.cut))
                if stop < WORD:
                    word &= (_ONE << np.uint64(stop)) - _ONE
                while word:
                    scratch[count] = rows.rank[base + lowest_bit(word)]
                    word &= word - _ONE
                    count += 1
            else:
                for row in range(start, stop):
                    if least <= np.int64(rows.rank[row]) < rows.cut:
                        scratch[count] = rows.rank[row]
                        count += 1
            if len(rows.passing_scene):
                count = _drop_scenes(rows, scratch, before, count)
            if count > 4 * quota:
                largest_down(scratch, count, positions, out)
                for at in range(quota):
                    scratch[at] = out[at]
                dropped += count - quota
                count = quota
                least = np.int64(out[quota - 1]) + 1
    largest_down(scratch, count, positions, out)
    return count + dropped


@kernel_no_refcount
def _drop_scenes(rows: Rows, scratch: U32, start: int, stop: int) -> int:
    kept = start
    for at in range(start, stop):
        scratch[kept] = scratch[at]
        kept += int(rows.passing_scene[rows.scene[rows.order[scratch[at]]]])
    return kept
