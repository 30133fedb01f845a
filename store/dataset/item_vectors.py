"""Reads the content vectors of a dataset folder: what is known of items beforehand, as points of one space.

They are training's part of the input contract and never ingested; docs/data.md says what the file holds.
"""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.dataset.bad_rows import BadRows
from store.dataset.field_values import is_list, number_field
from store.dataset.parsing import IdPool
from store.dataset.readers import find_files, read_table
from store.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from store.dataset.batch import Batch
    from store.types import F32, U64, Bool

ITEM_VECTORS = "item_vectors"
"""Name of the file, without its ending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemVectors:
    """Vectors of items and ads, by id."""

    ids: U64
    """Ascending, distinct. (I,)"""
    vectors: F32
    """Finite. (I, d)"""
    weights: F32
    """How much each counts in the means of the categories above it, at least 0. (I,)"""

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.vectors.shape[1])


def read_item_vectors(folder: Path) -> ItemVectors | None:
    """Reads `item_vectors.parquet` of a dataset folder; None where there is none.

    Raises:
        InputError: It is no Parquet file, or lacks a column, or its vectors are no lists of one length.
        TooManyBadRowsError: A row breaks the contract; names file, row and reason.
    """
    found = find_files(folder, ITEM_VECTORS)
    if found and not found[0].name.endswith(".parquet"):
        raise InputError(f"{found[0]}: vectors are read from Parquet only: {ITEM_VECTORS}.parquet")
    bad_rows = BadRows(max_bad_rows=0)
    batch = read_table(folder, ITEM_VECTORS, {"item", "vector"}, {"weight"}, bad_rows)
    if batch is None:
        return None
    ids: U64 = IdPool("item").column(batch, "item", required=True)
    vectors = _vectors(batch)
    weights = number_field(batch, "weight") if "weight" in batch.columns else np.ones(len(batch), np.float32)
    batch.check.refuse(~(weights >= 0), lambda row: f"weight: {weights[row]} is not at least 0")
    order = np.argsort(ids, kind="stable")
    again = order[1:][ids[order][1:] == ids[order][:-1]]
    batch.check.refuse(np.isin(np.arange(len(ids)), again), lambda row: f"item: {ids[row]} stands there already")
    batch.report(bad_rows)
    return ItemVectors(ids=ids[order], vectors=vectors[order], weights=weights[order])


def _vectors(batch: Batch) -> F32:
    """Gives the vectors as they stand there. (N, d)."""
    column = batch.columns["vector"]
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    if not is_list(column.type) or not pa.types.is_floating(column.type.value_type):
        raise InputError(f"{batch.file}: vector has type {column.type}; a vector is a list of floating-point numbers")
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    often = np.bincount(lengths, minlength=1)
    dim = len(often) - 1 - int(often[::-1].argmax())
    if dim == 0:
        raise InputError(f"{batch.file}: vector: there are none, or most are empty")
    batch.check.refuse(lengths != dim, lambda row: f"vector: has {lengths[row]} numbers, most have {dim}")
    whole = column.filter(pa.array(lengths == dim))
    values = pc.list_flatten(whole).cast(pa.float32()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    vectors = np.zeros((len(batch), dim), np.float32)
    vectors[lengths == dim] = values.reshape(-1, dim)
    finite: Bool = np.logical_and.reduce(np.isfinite(vectors), axis=1)
    batch.check.refuse(~finite, lambda _: "vector: holds what is no finite number")
    return vectors
