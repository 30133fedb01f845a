import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records.rows import narrow_to, widen, width_of
from store.types import NO_ID

WIDTHS = [np.uint8, np.uint16, np.uint32, np.uint64]


def narrow(ids):
    """As a build does: the width of the largest id there is, then the column in it."""
    largest = max((int(value) for value in ids if value != NO_ID), default=-1)
    return narrow_to(ids, width_of(largest))


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [
        (0, np.uint8),
        (254, np.uint8),
        (255, np.uint16),
        (2**16 - 2, np.uint16),
        (2**16 - 1, np.uint32),
        (2**32 - 2, np.uint32),
        (2**32 - 1, np.uint64),
        (2**64 - 2, np.uint64),
    ],
)
def test_the_smallest_type_with_a_value_to_spare(largest, dtype):
    for ids in ([largest], [largest, NO_ID], [0, NO_ID, largest]):
        narrowed = narrow(np.array(ids, np.uint64))
        assert narrowed.dtype == dtype
        assert widen(narrowed).tolist() == ids


def test_nothing_and_only_missing_need_one_byte():
    assert narrow(np.empty(0, np.uint64)).dtype == np.uint8
    assert narrow(np.array([NO_ID], np.uint64)).tolist() == [255]


@given(st.lists(st.one_of(st.just(NO_ID), st.integers(0, NO_ID - 1), st.integers(0, 300)), max_size=20))
def test_widening_undoes_narrowing(ids):
    column = np.array(ids, np.uint64)
    narrowed = narrow(column)
    assert widen(narrowed).tolist() == ids
    for dtype in WIDTHS[WIDTHS.index(narrowed.dtype.type) :]:
        wide = narrow_to(column, np.dtype(dtype))
        assert wide.dtype == dtype
        assert widen(wide).tolist() == ids


def test_an_id_too_large_for_the_type_is_a_mistake_of_the_program():
    for too_large in (255, 256):
        with pytest.raises(AssertionError, match="too large for uint8"):
            narrow_to(np.array([too_large], np.uint64), np.dtype(np.uint8))
