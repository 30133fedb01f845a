"""Rows of many users in the order of their records, and ids in as few bits as they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from store.events import STREAMS_PER_DOMAIN
from store.fields import ID, ValueColumn, value_type_of
from store.types import NO_ID

if TYPE_CHECKING:
    from store.types import I64, U16, U32, U64, AnyArray, Unsigned, UserColumns

_WIDTHS = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.uint32), np.dtype(np.uint64))


@dataclass(frozen=True, slots=True, kw_only=True)
class UserBlock:
    """The rows of K users, N in all, each user's in the order that `UserColumns` describes.

    Example, two users::

        users   7        3               ascending by key (`keys.mix`), not by id
        bounds  0        3     5
        stream  1  1  4  1  1
        node    4  9  4  2  2
        time    1  5  3  6  8
        rank    0  2  1  0  1            inside the user
        order   0  2  1  0  1
    """

    users: U64
    """Distinct ids, ascending by `keys.mix`. (K,)"""
    bounds: I64
    """Rows of user k: `[bounds[k], bounds[k + 1])`. (K + 1,)"""
    stream: U16
    """Domain code * 256 + action code. (N,)"""
    node: U32
    """As in `UserColumns`. (N,)"""
    timestamp_ms: I64
    """Milliseconds UTC. (N,)"""
    item: Unsigned
    """Item ids, uint32 or uint64. (N,)"""
    scene: Unsigned
    """Scene codes, uint8 or uint16. (N,)"""
    rank: U32
    """As in `UserColumns`. (N,)"""
    order: U32
    """As in `UserColumns`. (N,)"""
    category: Unsigned
    """Category ids as the events gave them, any unsigned type; all ones = missing. (N,)"""
    key: U64 | None
    """Event ids, `NO_ID` = none; None = no event of the block has one. (N,)"""
    fields: tuple[AnyArray, ...]
    """Side-info fields in the order of `StoreMeta.behavior_fields`: ids of any unsigned type, all ones = missing; or
    float32, NaN = missing. Each (N,)"""

    def __len__(self) -> int:
        return len(self.node)


def width_of(largest: int) -> np.dtype[Any]:
    """Gives the smallest unsigned type that has a value to spare behind the largest id: all ones means missing.

    Args:
        largest: -1 = there is none.
    """
    return next(dtype for dtype in _WIDTHS if largest < np.iinfo(dtype).max)


def narrow_to(ids: U64, dtype: np.dtype[Any]) -> Unsigned:
    """Gives ids in an unsigned type, `NO_ID` as all ones. A new array.

    Args:
        ids: Each below the largest value of the type, or `NO_ID`.
        dtype: The type.
    """
    narrowed: Unsigned = ids.astype(dtype)
    assert np.array_equal(widen(narrowed), ids), f"an id is too large for {dtype}"
    return narrowed


def widen(ids: Unsigned) -> U64:
    """Gives ids in 64 bits again, all ones as `NO_ID`: the inverse of `narrow_to`. A new array."""
    widened = ids.astype(np.uint64)
    if ids.dtype != np.uint64:
        widened[widened == np.uint64(np.iinfo(ids.dtype).max)] = NO_ID
    return widened


def widen_values(values: AnyArray) -> ValueColumn:
    """Gives side-info values as `FieldType` has them: ids in 64 bits; numbers as they are."""
    return widen(values) if value_type_of(values) is ID else values


def stream_of_rows(columns: UserColumns) -> U16:
    """Gives the stream of each row, `domain code * 256 + action code`, (N,)."""
    streams = [section.domain * STREAMS_PER_DOMAIN + section.action for section in columns.sections]
    lengths = [section.stop - section.start for section in columns.sections]
    return np.repeat(np.array(streams, np.uint16), np.array(lengths, np.int64))
