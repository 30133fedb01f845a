"""The values of a field, from what is given and what the store knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from store.lists import Lists

if TYPE_CHECKING:
    from model_stage.config.schema import AnyField
    from store.fields import FieldColumn, IdLists
    from store.types import AnyArray


def resolve_values(field: AnyField, given: FieldColumn | None, stored: FieldColumn | None, count: int) -> AnyArray:
    """Gives the values of a field with one value each: those given, else what the store knows, else missing.

    Args:
        field: Says of which type they are.
        given: Of length `count`, or of length 1 to stand for all; None = nothing. So is `stored`. A column of another
            kind than the field's is passed over.
        stored: See `given`.
        count: Length of the answer.
    """
    values: AnyArray = field.type.missing(count)
    columns: tuple[Any, ...] = (stored, given)
    for column in columns:
        if column is not None and field.type.fits(column):
            values = np.where(field.type.given(column), column, values)
    return values


def resolve_lists(given: FieldColumn | None, stored: FieldColumn | None, count: int) -> IdLists:
    """Gives the lists of a multi-valued field: those given, where they are empty what the store knows.

    Arguments: as `resolve_values`.
    """
    parts: list[IdLists] = [Lists.empty(1, np.uint64)]
    chosen, start = np.zeros(count, np.int64), 1
    for column in (stored, given):
        if isinstance(column, Lists):
            rows = np.arange(count) if len(column) == count else np.zeros(count, np.int64)
            chosen = np.where(column.lengths[rows] > 0, start + rows, chosen)
            parts.append(column)
            start += len(column)
    return Lists.join(parts)[chosen]
