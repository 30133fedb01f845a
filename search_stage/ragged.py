"""Two small tools for ragged arrays that every part of the search needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from store.types import I64


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
