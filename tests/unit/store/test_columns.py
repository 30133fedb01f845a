"""Taking and joining rows of every column of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from store.columns import Columns
from store.types import NO_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows(Columns):
    item: np.ndarray
    key: np.ndarray | None
    listed: tuple[np.ndarray, ...]
    named: dict[str, np.ndarray]


def rows_of(values, *, keyed):
    item = np.array(values, np.uint32)
    key = item.astype(np.uint64) + np.uint64(100) if keyed else None
    return Rows(item=item, key=key, listed=(item * 2,), named={"half": item.astype(np.float32) / 2})


def as_lists(rows):
    key = None if rows.key is None else rows.key.tolist()
    return rows.item.tolist(), key, [each.tolist() for each in rows.listed], rows.named["half"].tolist()


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("rows", [slice(1, 3), np.array([2, 0, 2]), np.array([True, False, True])])
def test_every_column_is_taken(keyed, rows):
    found = rows_of([7, 8, 9], keyed=keyed).take(rows)
    expected = np.array([7, 8, 9])[rows]
    assert len(found) == len(expected)
    assert as_lists(found) == as_lists(rows_of(expected, keyed=keyed))


def test_parts_are_joined_and_a_missing_column_of_ids_is_filled_where_another_part_has_it():
    joined = Rows.join([rows_of([], keyed=False), rows_of([7, 8], keyed=False), rows_of([9], keyed=True)])
    assert as_lists(joined) == ([7, 8, 9], [NO_ID, NO_ID, 109], [[14, 16, 18]], [3.5, 4.0, 4.5])
    assert (joined.item.dtype, joined.key.dtype, joined.named["half"].dtype) == (np.uint32, np.uint64, np.float32)
    assert Rows.join([rows_of([1], keyed=False)]).key is None
