"""Values of side-info fields: ids, numbers, or lists of ids, as a column's type says."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.dataset.parsing import IdPool, no_id
from store.types import NO_ID

if TYPE_CHECKING:
    from store.dataset.bad_rows import RowCheck
    from store.dataset.batch import Batch
    from store.types import F32, I64, U64


def numbers(check: RowCheck, name: str, column: pa.Array) -> F32:
    """Gives a column of numbers as float32, NaN where missing, refusing what is not finite."""
    wide = column.cast(pa.float64(), safe=False)
    values = wide.fill_null(np.nan).to_numpy()
    with np.errstate(over="ignore"):
        out: F32 = values.astype(np.float32)
    check.refuse(np.isinf(out), lambda row: f"{name}: {column[row].as_py()} is no finite float32")
    return out


def id_field(batch: Batch, name: str, values: IdPool) -> U64:
    """Gives a categorical side-info field: the ids of its strings, `NO_ID` where empty or null.

    Raises:
        InputError: Two strings share one hash.
    """
    column = batch.columns[name]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    column = column.cast(pa.string())  # a column in which all is null has no type
    column = pc.if_else(pc.equal(column, ""), None, column)
    ids, bad = values.parse(f"{batch.file}: {name}", column)
    batch.check.refuse(bad, partial(no_id, name, column))
    return ids


def list_values(batch: Batch, name: str, column: pa.Array, pool: IdPool) -> tuple[U64, I64]:
    """Gives the ids of all lists of a column, and the row of each; refuses rows with a null or what is no id.

    Raises:
        InputError: The values are neither integers nor strings, or two strings share one hash.
    """
    values = pc.list_flatten(column)
    ids, _ = pool.parse(f"{batch.file}: {name}", values)
    row_of = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    bad = np.zeros(len(batch), np.bool_)
    bad[row_of[ids == NO_ID]] = True
    batch.check.refuse(bad, lambda row: f"{name}: {column[row].as_py()!r} holds what is no id")
    return ids, row_of


def is_list(kind: pa.DataType) -> bool:
    """Gives whether a type is that of lists."""
    return bool(pa.types.is_list(kind))


def number_field(batch: Batch, name: str) -> F32:
    """Gives a numeric side-info field, NaN where missing; refuses a text that is no number, and infinity."""
    column = batch.columns[name]
    if not batch.is_text:
        return numbers(batch.check, name, column)
    try:
        values = column.cast(pa.float64())
    except pa.ArrowInvalid:
        good = np.array([value is None or _is_number(value) for value in column.to_pylist()], np.bool_)
        batch.check.refuse(~good, lambda row: f"{name}: {column[row].as_py()!r} is no number")
        values = pc.if_else(pa.array(good), column, None).cast(pa.float64())
    return numbers(batch.check, name, values)


def _is_number(text: str) -> bool:
    try:
        pa.scalar(text).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
