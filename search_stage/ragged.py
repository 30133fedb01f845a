"""Two small tools for ragged arrays that every part of the search needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from store.types import I64


def expand_ranges(starts: npt.NDArray[np.integer[Any]], lengths: npt.NDArray[np.integer[Any]]) -> tuple[I64, I64]:
    """Writes out half-open ranges.

    Example: starts `[4, 9]`, lengths `[2, 3]` give owners `[0, 0, 1, 1, 1]` and positions `[4, 5, 9, 10, 11]`.

    Args:
        starts: First position of each range. (R,)
        lengths: Number of positions of each range, 0 or more. (R,)

    Returns:
        The range each position is of, and the positions, both int64 (sum of lengths,).
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    positions = np.arange(total) + np.repeat(starts.astype(np.int64) - (ends - lengths), lengths)
    return np.repeat(np.arange(len(lengths)), lengths), positions


def position_in_group(groups: I64) -> I64:
    """Gives each element's position within its group, where equal groups stand together.

    Example: `[3, 3, 5, 5, 5]` gives `[0, 1, 0, 1, 2]`.
    """
    if not len(groups):
        return np.empty(0, np.int64)
    first = np.concatenate(([True], groups[1:] != groups[:-1]))
    starts = np.flatnonzero(first)
    position: I64 = np.arange(len(groups)) - starts[np.cumsum(first) - 1]
    return position
