"""Types of side-info fields: what a column of each holds, and how a value is missing.

Columns are plain arrays, or `Lists`; a type knows all that depends on what they hold, and nothing else asks for that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeGuard, TypeVar

import numpy as np

from store.lists import Lists, spans
from store.types import F32, NO_ID, U64, AnyArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.types import I64, Bool

FieldKind = Literal["id", "number"]
"""Name of the type of a field with one value each, as manifests and the delta write it."""

FieldKinds = tuple[tuple[str, FieldKind], ...]
"""Name and kind of every side-info field of behaviors, ascending by name."""

IdLists = Lists[np.uint64]
ValueColumn = U64 | F32
"""A column with one value each."""
FieldColumn = ValueColumn | IdLists
"""A side-info field of some behaviors, items, users or candidates: a column of one of the types below."""

C = TypeVar("C")
A = TypeVar("A", bound=AnyArray)


class FieldType(ABC, Generic[C]):
    """What the values of a side-info field are. Without state."""

    holds: ClassVar[str]
    """For messages: "ids"."""
    dtype: ClassVar[np.dtype[Any]]
    """Of the values."""

    @abstractmethod
    def fits(self, column: FieldColumn) -> TypeGuard[C]:
        """Says whether a column is one of this type."""

    @abstractmethod
    def missing(self, length: int) -> C:
        """Gives a new column in which every value is missing, (length,)."""

    @abstractmethod
    def given(self, column: C) -> Bool:
        """Gives which values of a column are not missing, (N,)."""

    @abstractmethod
    def join(self, parts: Sequence[C]) -> C:
        """Gives the values of several columns, at least one, one after another."""

    @abstractmethod
    def look_up(self, column: C, at: I64, found: Bool) -> C:
        """Gives some values of a column, missing where nothing was found.

        Args:
            column: Of length K.
            at: Positions in it; of no account where nothing was found. (N,)
            found: (N,)

        Returns:
            A new column, (N,).
        """


class ValueType(FieldType[A]):
    """A field that has one value each."""

    kind: ClassVar[FieldKind]
    missing_value: ClassVar[float]

    def fits(self, column: FieldColumn) -> TypeGuard[A]:  # noqa: D102
        return not isinstance(column, Lists) and column.dtype == self.dtype

    def missing(self, length: int) -> A:  # noqa: D102
        column: Any = np.full(length, self.missing_value, self.dtype)
        return column  # type: ignore[no-any-return]

    def join(self, parts: Sequence[A]) -> A:  # noqa: D102
        joined: Any = np.concatenate(parts)
        return joined  # type: ignore[no-any-return]

    def look_up(self, column: A, at: I64, found: Bool) -> A:  # noqa: D102
        values = self.missing(len(at))
        values[found] = column[at[found]]
        return values

    @abstractmethod
    def to_words(self, column: A) -> U64:
        """Gives the bits of each value in 64 of them, (N,)."""

    @abstractmethod
    def of_words(self, words: U64) -> A:
        """Gives the values whose bits these are: the inverse of `to_words`."""


class _Ids(ValueType[U64]):
    kind = "id"
    holds = "ids"
    dtype = np.dtype(np.uint64)
    missing_value = NO_ID

    def given(self, column: U64) -> Bool:
        given: Bool = column != np.uint64(NO_ID)
        return given

    def to_words(self, column: U64) -> U64:
        return column

    def of_words(self, words: U64) -> U64:
        return words


class _Numbers(ValueType[F32]):
    kind = "number"
    holds = "numbers"
    dtype = np.dtype(np.float32)
    missing_value = float("nan")

    def given(self, column: F32) -> Bool:
        given: Bool = ~np.isnan(column)
        return given

    def to_words(self, column: F32) -> U64:
        return np.ascontiguousarray(column).view(np.uint32).astype(np.uint64)

    def of_words(self, words: U64) -> F32:
        return words.astype(np.uint32).view(np.float32)


class _IdLists(FieldType[IdLists]):
    holds = "lists of ids"
    dtype = np.dtype(np.uint64)

    def fits(self, column: FieldColumn) -> TypeGuard[IdLists]:
        return isinstance(column, Lists) and column.values.dtype == self.dtype

    def missing(self, length: int) -> IdLists:
        return Lists.empty(length, np.uint64)

    def given(self, column: IdLists) -> Bool:
        return column.lengths > 0

    def join(self, parts: Sequence[IdLists]) -> IdLists:
        return Lists.join(parts)

    def look_up(self, column: IdLists, at: I64, found: Bool) -> IdLists:
        if len(column) == 0:
            return self.missing(len(at))
        starts = column.offsets[at]
        rows, offsets = spans(starts, np.where(found, column.offsets[at + 1] - starts, 0))
        return Lists(values=column.values[rows], offsets=offsets)


ID = _Ids()
"""Ids, uint64; `NO_ID` = missing."""
NUMBER = _Numbers()
"""Finite numbers, float32; NaN = missing."""
ID_LISTS = _IdLists()
"""Lists of ids, uint64; an empty one = missing."""

VALUE_TYPES: dict[FieldKind, ValueType[Any]] = {"id": ID, "number": NUMBER}


def value_type_of(column: AnyArray) -> ValueType[Any]:
    """Gives the type of a column that has one value each; stored ids may have fewer than 64 bits."""
    return NUMBER if column.dtype.kind == "f" else ID


def type_of(column: FieldColumn) -> FieldType[Any]:
    """Gives the type of a column."""
    return ID_LISTS if isinstance(column, Lists) else value_type_of(column)
