"""Columns of one length as a dataclass: what rows to take of all of them, and several joined to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.types import I64, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Base of dataclasses whose fields are columns of one length N, the first one an array.

    A field is an array; a tuple or a mapping of such; or None for a column of ids that are all missing.
    """

    def __len__(self) -> int:
        return len(getattr(self, next(iter(self.__dataclass_fields__))))

    def take(self, rows: slice | I64 | Bool) -> Self:
        """Gives some rows, in the order asked for; views where `rows` is a slice."""
        return type(self)(**{name: take_column(getattr(self, name), rows) for name in self.__dataclass_fields__})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Gives all rows of several parts, at least one, with the same tuples and mappings; new arrays."""
        lengths = [len(part) for part in parts]
        return cls(
            **{name: join_column([getattr(part, name) for part in parts], lengths) for name in cls.__dataclass_fields__}
        )


def take_column(column: Any, rows: slice | I64 | Bool) -> Any:  # noqa: ANN401 (an array, or one of what `Columns` names)
    """Gives some rows of a field of `Columns`."""
    if isinstance(column, tuple):
        return tuple(values[rows] for values in column)
    if isinstance(column, Mapping):
        return {name: values[rows] for name, values in column.items()}
    return None if column is None else column[rows]


def join_column(columns: Sequence[Any], lengths: Sequence[int]) -> Any:  # noqa: ANN401 (as above)
    """Gives one field of several `Columns` of these lengths as one."""
    first = columns[0]
    if isinstance(first, tuple):
        return tuple(np.concatenate(values) for values in zip(*columns, strict=True))
    if isinstance(first, Mapping):
        return {name: np.concatenate([column[name] for column in columns]) for name in first}
    if all(column is None for column in columns):
        return None
    pairs = zip(columns, lengths, strict=True)
    return np.concatenate([np.full(length, NO_ID, np.uint64) if column is None else column for column, length in pairs])
