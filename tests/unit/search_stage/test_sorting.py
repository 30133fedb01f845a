import numpy as np
import pytest

from search_stage.kernels.sorting import PLACES_ROOM, largest_down, smallest, sort_down, sort_up
from search_stage.kernels.widths import PLACES


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("count", [0, 1, 2, 50, 128, 129, 300, 2_000])
@pytest.mark.parametrize("top_k", [1, 50, 128, 200])
def test_the_smallest_are_those_of_numpy(dtype, count, top_k):
    values = np.random.default_rng([count, top_k]).permutation(3_000).astype(dtype)
    out = np.full(top_k, 9_999, dtype)
    smallest(values, count, out)
    expected = np.sort(values[:count])[:top_k]
    assert out.tolist() == [*expected.tolist(), *[9_999] * (top_k - len(expected))]


@pytest.mark.parametrize("count", [0, 1, 2, 127, 128, 129, 1_000])
def test_sorting_is_in_place_and_complete(count):
    values = np.random.default_rng(count).permutation(2**40 + np.arange(count))
    up, down = values.copy(), values.copy()
    sort_up(up)
    sort_down(down)
    assert up.tolist() == np.sort(values).tolist()
    assert down.tolist() == up[::-1].tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 300, 512, 513, 2_000])
@pytest.mark.parametrize("top_k", [1, 50, 200])
def test_the_largest_are_those_of_numpy(count, top_k):
    values = np.random.default_rng([count, top_k]).permutation(2**32 - 2 - np.arange(count)).astype(np.uint32)
    out = np.full(top_k, 7, np.uint32)
    spare = np.zeros(PLACES, np.uint32)
    largest_down(np.concatenate((values, spare)), count, np.empty(PLACES_ROOM, np.uint32), out)
    expected = np.sort(values)[::-1][:top_k]
    assert out.tolist() == [*expected.tolist(), *[7] * (top_k - len(expected))]
