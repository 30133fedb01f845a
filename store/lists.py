"""Lists of values, one after another: what a multi-valued field has for each item, user or candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from store.types import I64, Bool

V = TypeVar("V", bound=np.generic)
MAX_LIST_VALUES = 256
"""Values that one list of a multi-valued field may have, in a table, in the impressions and in a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists(Generic[V]):
    """Lists of values; immutable.

    Three of them::

    offsets   0      2 2   3        N = 3
    values    7  9     7            [7 9] [] [7]
    """

    values: npt.NDArray[V]
    """One list after another. (X,)"""
    offsets: I64
    """Where each list starts in `values`, and the end. (N + 1,)"""

    def __post_init__(self) -> None:
        check_offsets("offsets", self.offsets, len(self) if len(self.offsets) else 0, len(self.values))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: I64 | Bool) -> Lists[V]:
        """Gives some lists, in the order asked; a list that is asked for twice is there twice."""
        rows = np.arange(len(self))[rows]
        at, offsets = spans(self.offsets[:-1][rows], self.lengths[rows])
        return Lists(values=self.values[at], offsets=offsets)

    @property
    def lengths(self) -> I64:
        """Number of values of each list. (N,)."""
        return np.diff(self.offsets)

    @property
    def list_of(self) -> I64:
        """The list of each value. (X,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @staticmethod
    def of(list_of: I64, values: npt.NDArray[V], num_lists: int) -> Lists[V]:
        """Gives the lists that some values are of, each ascending and without repetition.

        Args:
            list_of: The list of each value, in any order. (X,)
            values: (X,)
            num_lists: Lists N.
        """
        order = np.lexsort((values, list_of))
        list_of, values = list_of[order], values[order]
        new = np.ones(len(values), np.bool_)
        new[1:] = (list_of[1:] != list_of[:-1]) | (values[1:] != values[:-1])
        counts = np.bincount(list_of[new], minlength=num_lists)
        return Lists(values=values[new], offsets=np.concatenate((np.zeros(1, np.int64), np.cumsum(counts))))

    @staticmethod
    def empty(num_lists: int, dtype: type[V]) -> Lists[V]:
        """Gives lists without a value."""
        return Lists(values=np.empty(0, dtype), offsets=np.zeros(num_lists + 1, np.int64))

    @staticmethod
    def join(parts: Sequence[Lists[V]]) -> Lists[V]:
        """Gives all lists of several parts, at least one, one part after another."""
        lengths = np.concatenate([part.lengths for part in parts])
        return Lists(
            values=np.concatenate([part.values for part in parts]),
            offsets=np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))),
        )


def spans(starts: I64, lengths: I64) -> tuple[I64, I64]:
    """Writes out half-open ranges: their positions, one range after another, and where each begins among them.

    Example: starts `[4, 9]`, lengths `[2, 3]` give `[4, 5, 9, 10, 11]` and `[0, 2, 5]`. (X,), (N + 1,)
    """
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    return np.arange(int(offsets[-1])) + np.repeat(starts - offsets[:-1], lengths), offsets


def positions_within(lengths: I64) -> I64:
    """Gives the position of each value inside its list: lengths `[2, 0, 3]` give `[0, 1, 0, 1, 2]`. (X,)."""
    return spans(np.zeros(len(lengths), np.int64), lengths)[0]


def check_offsets(name: str, offsets: I64, num_lists: int, num_values: int) -> None:
    """Checks that offsets describe `num_lists` consecutive lists over `num_values` values.

    Raises:
        InputError: Wrong length, not starting at 0, not ending at `num_values`, or not ascending; names the field.
    """
    if offsets.shape != (num_lists + 1,):
        raise InputError(f"{name}: expected {num_lists + 1} offsets, got shape {offsets.shape}")
    if num_values == 0 and not np.count_nonzero(offsets):
        return  # as it mostly is where lists are optional; the rest takes six times as long
    if offsets[0] != 0 or offsets[-1] != num_values:
        raise InputError(f"{name}: must run from 0 to {num_values}, runs from {offsets[0]} to {offsets[-1]}")
    if np.count_nonzero(offsets[1:] < offsets[:-1]):
        raise InputError(f"{name}: must not descend")
