"""The scan takes its bar from a sample; where the sample is better than the rest that is found out."""

from __future__ import annotations

import numpy as np
import pytest

from search_stage.soft.base import Keys
from search_stage.soft.engines import numpy as plain
from search_stage.soft.engines import scan
from tests.worlds.soft import index_of

NUM_KEYS, TOP_K = 20_000, 100


@pytest.mark.parametrize("every", range(3, 10))
def test_a_bar_that_few_keys_pass_is_not_believed(every):
    """Every n-th key is good, as if those in the sample were: fewer pass the bar than are asked for."""
    rng = np.random.default_rng(every)
    table = -1 - rng.random((NUM_KEYS, 1), np.float32)
    table[::every] *= -1
    keys = Keys(row=np.arange(NUM_KEYS, dtype=np.uint32), newest=np.arange(NUM_KEYS, dtype=np.uint32))
    queries = np.array([[1.0], [-1.0]], np.float32)
    index = index_of(table)
    found = scan.Engine(index).nearest(queries, keys, TOP_K)
    np.testing.assert_array_equal(found, plain.Engine(index).nearest(queries, keys, TOP_K))
