"""Content vectors of a dataset: what a file may hold, and what is refused with its row and its reason."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.dataset.item_vectors import read_item_vectors
from store.errors import InputError, TooManyBadRowsError
from store.types import parse_id


def write(folder, **columns):
    pq.write_table(pa.table(columns), folder / "item_vectors.parquet")
    return folder


def test_ids_come_ascending_with_their_vectors(tmp_path):
    vectors = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    read = read_item_vectors(write(tmp_path, item=["9", "tea", "7"], vector=vectors, weight=[1.0, 0.0, 2.5]))
    assert read.dim == 2
    order = np.argsort(np.array([9, parse_id("tea"), 7], np.uint64))
    assert read.ids.tolist() == [[9, parse_id("tea"), 7][at] for at in order]
    np.testing.assert_array_equal(read.vectors, np.array(vectors, np.float32)[order])
    np.testing.assert_array_equal(read.weights, np.array([1.0, 0.0, 2.5], np.float32)[order])


def test_lists_of_a_fixed_size_are_lists(tmp_path):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, 3.0, 4.0], pa.float32()), 2)
    read = read_item_vectors(write(tmp_path, item=[1, 2], vector=vectors))
    np.testing.assert_array_equal(read.vectors, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(read.weights, [1, 1])


def test_there_may_be_none(tmp_path):
    assert read_item_vectors(tmp_path) is None


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"vector": [[1.0, 2.0], [1.0]]}, "vector: has 1 numbers, most have 2"),
        ({"vector": [[1.0, 2.0], None]}, "vector: has 0 numbers, most have 2"),
        ({"vector": [[1.0, 2.0], [1.0, float("inf")]]}, "vector: holds what is no finite number"),
        ({"vector": [[1.0, 2.0], [1.0, None]]}, "vector: holds what is no finite number"),
        ({"weight": [1.0, -1.0]}, "weight: -1.0 is not at least 0"),
        ({"weight": [1.0, None]}, "weight: nan is not at least 0"),
        ({"item": [1, 1]}, "item: 1 stands there already"),
    ],
)
def test_a_bad_row_is_named(tmp_path, columns, reason):
    good = {"item": [1, 2], "vector": [[1.0, 2.0], [3.0, 4.0]], "weight": [1.0, 1.0]}
    with pytest.raises(TooManyBadRowsError, match=reason):
        read_item_vectors(write(tmp_path, **{**good, **columns}))


@pytest.mark.parametrize("vectors", [[1.0, 2.0], [[1, 2], [3, 4]], [[], []]])
def test_a_column_that_holds_no_vectors_is_refused(tmp_path, vectors):
    with pytest.raises(InputError, match=r"item_vectors\.parquet: vector"):
        read_item_vectors(write(tmp_path, item=[1, 2], vector=pa.array(vectors)))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "item_vectors.csv").write_text("item,vector\n1,2\n")
    with pytest.raises(InputError, match="from Parquet only"):
        read_item_vectors(tmp_path)
