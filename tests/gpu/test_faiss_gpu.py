"""Soft search on an NVIDIA GPU equals the plain one; run by `make test-gpu` on a machine that has one."""

from __future__ import annotations

import numpy as np
import pytest

from search_stage.soft.base import Keys, nearest_of_all
from search_stage.soft.engines import make_engine
from tests.worlds.soft import index_of, vectors

pytestmark = pytest.mark.gpu


def keys_of(rng: np.random.Generator, num_rows: int, count: int) -> Keys:
    return Keys(
        row=np.sort(rng.integers(0, num_rows, count)).astype(np.uint32), newest=rng.permutation(count).astype(np.uint32)
    )


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("top_k", [1, 50, 2040])
@pytest.mark.parametrize("count", [10, 3_000, 100_000])
def test_the_device_answers_what_plain_search_does(coarse, top_k, count):
    rng = np.random.default_rng([top_k, count])
    index = index_of(vectors(rng, 20_000, 32, coarse))
    search = make_engine("gpu", index)
    for num_queries in (1, 7):
        queries, keys = vectors(rng, num_queries, 32, coarse), keys_of(rng, 20_000, count)
        expected = nearest_of_all(index, queries, keys, top_k)
        np.testing.assert_array_equal(search.nearest(queries, keys, top_k), expected)
