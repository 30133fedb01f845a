import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from store.keys import mix, mix_one, unmix, unmix_one, user_key

ID = st.integers(0, 2**64 - 1)


def test_the_mix_is_that_of_splitmix64():
    """First output of the published generator for seed 0: its state is then the golden gamma."""
    assert mix_one(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF
    assert user_key(0x9E3779B97F4A7C15) == bytes.fromhex("e220a8397b1dcdaf")
    assert user_key(0) == bytes(8)


@given(st.lists(ID, max_size=20))
def test_columns_are_mixed_like_single_ids(ids):
    column = np.array(ids, np.uint64)
    keys = mix(column)
    assert keys.tolist() == [mix_one(user) for user in ids]
    assert unmix(keys).tolist() == [unmix_one(key) for key in keys.tolist()] == ids
    assert column.tolist() == ids


@given(ID)
def test_every_key_belongs_to_one_user(key):
    assert mix_one(unmix_one(key)) == key


def test_ids_in_a_row_spread_over_the_keys():
    share = np.bincount((mix(np.arange(1 << 16, dtype=np.uint64)) >> np.uint64(60)).astype(np.int64), minlength=16)
    assert share.min() > 0.95 * (1 << 12)
    assert share.max() < 1.05 * (1 << 12)
