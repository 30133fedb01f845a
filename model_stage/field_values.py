"""The values of a field, from what is given and what the store knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.types import NO_ID

if TYPE_CHECKING:
    from model_stage.schema import Holds, SideField
    from store.types import F32, U64, AnyArray


def holds_of(column: U64 | F32) -> Holds:
    """Says what a column holds."""
    return "numbers" if column.dtype == np.float32 else "ids"


def known_values(field: SideField, given: U64 | F32 | None, stored: U64 | F32 | None, count: int) -> AnyArray:
    """Gives a field's values: those given, else what the store knows, else missing.

    Args:
        field: Says whether they are ids (uint64, `NO_ID` = missing) or numbers (float32, NaN = missing).
        given: Of length `count`, or of length 1 to stand for all; None = nothing. So is `stored`. A column of another
            kind than the field's is passed over.
        stored: See `given`.
        count: Length of the answer.
    """
    numbers = field.holds == "numbers"
    dtype, missing = (np.float32, np.nan) if numbers else (np.uint64, np.uint64(NO_ID))
    values = np.full(count, missing, dtype=dtype)
    for column in (stored, given):
        if column is not None and column.dtype == dtype:
            present = ~np.isnan(column) if numbers else column != np.uint64(NO_ID)
            values = np.where(present, column, values)
    return values
