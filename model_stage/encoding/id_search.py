"""Finds ids among many known ones: binary search by a table of where to begin, so that few lines of memory are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from store.types import I32, I64, U64

_MOST_IN_A_BUCKET = 32
"""Beyond it halving is faster than stepping."""


class IdSearch:
    """Finds the positions of ids among known ones. Thread-safe.

    A table of buckets of equal width, about as many as there are ids, says where each begins. Ids that are hashes, or
    numbers without large gaps, have few neighbors in their bucket. Others are found by halving alone::

        known       2  3   9  12  14      a bucket is 4 wide, the first begins at 2
        bucket      0  0   1   2   3
        begin       0      2   3   4

    Args:
        known: Ascending, each once; kept, not copied.
    """

    def __init__(self, known: U64) -> None:
        self._known = known
        self._begin: I32 | None = None
        if len(known) == 0:
            return
        width = int(known[-1] - known[0]).bit_length()
        self._shift = np.uint64(max(0, width - len(known).bit_length()))
        sizes = np.bincount(self._bucket(known))
        if int(sizes.max()) <= _MOST_IN_A_BUCKET:
            self._begin = (np.cumsum(sizes) - sizes).astype(np.int32)

    def find(self, ids: U64) -> I64:
        """Gives the position of each id, -1 where it is unknown. int64 (N,)."""
        known = self._known
        if self._begin is None:
            return find_by_halving(known, ids)
        within = np.clip(ids, known[0], known[-1])
        at = self._begin[self._bucket(within)].astype(np.int64)
        while (lower := known[at] < within).any():
            at += lower
        found: I64 = np.where(known[at] == ids, at, -1)
        return found

    def _bucket(self, ids: U64) -> I64:
        bucket: I64 = ((ids - self._known[0]) >> self._shift).astype(np.int64)
        return bucket


def find_by_halving(known: U64, ids: U64) -> I64:
    """Gives the position of each id among ascending known ones, -1 where it is unknown. int64 (N,)."""
    if len(known) == 0:
        return np.full(len(ids), -1, np.int64)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    found: I64 = np.where(known[at] == ids, at, -1)
    return found
