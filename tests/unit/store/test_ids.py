"""Ids at the door: a number is itself in one form only, everything else is a name."""

import numpy as np
import pytest

from store.errors import InputError
from store.types import NO_ID, check_id, parse_id


def test_a_number_is_itself_in_its_one_form():
    assert parse_id(105) == parse_id("105") == 105
    assert parse_id("0") == 0
    assert parse_id(str(NO_ID - 1)) == NO_ID - 1


@pytest.mark.parametrize("name", ["0105", "00", "+105", "-105", " 105", "1e2", "105.0", "18446744073709551616", "a"])
def test_anything_else_is_a_name(name):
    """Else rows of two users would be one user's, as 0105 and 105 are of different people."""
    assert parse_id(name) not in (0, 105, 100)
    assert parse_id(name) == parse_id(name)


@pytest.mark.parametrize(
    "value", ["", -1, NO_ID, str(NO_ID), 2**64, "\udce9", 5.0, float("nan"), True, np.True_, None, b"5"]
)
def test_what_is_no_id_is_refused_by_field(value):
    with pytest.raises(InputError, match=r"^user: "):
        parse_id(value, "user")


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint64, np.array])
def test_an_integer_of_numpy_is_one(kind):
    assert parse_id(kind(105)) == check_id(kind(105)) == 105
    assert type(parse_id(kind(105))) is int
