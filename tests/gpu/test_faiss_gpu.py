"""Soft search on an NVIDIA GPU equals the plain one; run by `make test-gpu` on a machine that has one."""

from __future__ import annotations

import numpy as np
import pytest

from search_stage.soft.base import Keys, NumpyKeySearch
from search_stage.soft.faiss_gpu import GpuKeySearch
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
    search, plain = GpuKeySearch(index), NumpyKeySearch(index)
    users = [(vectors(rng, queries, 32, coarse), keys_of(rng, 20_000, count)) for queries in (1, 7)]
    for answer, (queries, keys) in zip(search.nearest_of_many(users, top_k), users, strict=True):
        np.testing.assert_array_equal(answer, plain.nearest(queries, keys, top_k))
