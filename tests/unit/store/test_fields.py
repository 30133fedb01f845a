from __future__ import annotations

import numpy as np
import pytest

from store.fields import ID, ID_LISTS, NUMBER, VALUE_TYPES, type_of, value_type_of
from store.lists import Lists
from store.types import NO_ID
from tests.worlds.wire import assert_same

COLUMNS = {
    ID: np.array([7, NO_ID, 9], np.uint64),
    NUMBER: np.array([1.5, np.nan, -0.0], np.float32),
    ID_LISTS: Lists(values=np.array([7, 8, 9], np.uint64), offsets=np.array([0, 2, 2, 3])),
}
each_type = pytest.mark.parametrize(("values", "column"), COLUMNS.items(), ids=[each.holds for each in COLUMNS])


@each_type
def test_a_column_is_of_one_type_and_fits_no_other(values, column):
    assert type_of(column) is values
    assert [each for each in COLUMNS if each.fits(column)] == [values]


@each_type
def test_missing_values_are_not_given(values, column):
    assert values.given(column).tolist() == [True, False, True]
    missing = values.missing(3)
    assert values.fits(missing)
    assert not values.given(missing).any()


@each_type
def test_columns_join_one_after_another(values, column):
    joined = values.join([column, values.missing(1), column])
    assert_same(joined[np.arange(3)], column)
    assert_same(joined[np.arange(3, 4)], values.missing(1))
    assert_same(joined[np.arange(4, 7)], column)


@each_type
def test_what_is_not_found_is_missing(values, column):
    got = values.look_up(column, np.array([2, 0, 0]), np.array([True, False, True]))
    assert_same(got[np.array([0, 2])], column[np.array([2, 0])])
    assert_same(got[np.array([1])], values.missing(1))
    nothing = np.zeros(2, np.int64), np.zeros(2, np.bool_)
    assert_same(values.look_up(values.missing(0), *nothing), values.missing(2))


@pytest.mark.parametrize("values", VALUE_TYPES.values(), ids=VALUE_TYPES)
def test_the_bits_of_a_value_come_back(values):
    words = values.to_words(COLUMNS[values])
    assert words.dtype == np.uint64
    assert_same(values.of_words(words), COLUMNS[values])


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint32])
def test_a_column_of_another_width_fits_no_type(dtype):
    column = np.zeros(2, dtype)
    assert not any(each.fits(column) for each in COLUMNS)
    assert value_type_of(column) is (NUMBER if dtype == np.float64 else ID)
