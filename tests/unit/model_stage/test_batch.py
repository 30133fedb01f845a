"""Requests taken apart and put together: which candidates share a list, and which behaviors are the user's newest."""

from __future__ import annotations

import numpy as np
import pytest

from model_stage.encoding.batch import collate
from tests.worlds.networks import make_request


@pytest.mark.parametrize(
    ("chosen", "same_as"),
    [([0, 1, 2, 3], [0, 1, 0, 1]), ([2, 3, 1], [0, 1, 1]), ([3], [0]), ([2, 2, 0], [0, 0, 0]), ([], [])],
)
def test_candidates_that_are_taken_share_the_lists_they_shared(chosen, same_as):
    taken = make_request([3, 2, 3, 2]).take(np.array(chosen, np.int64))
    assert taken.same_as.tolist() == same_as
    assert taken.same_as.dtype == np.int32


def test_candidates_of_different_requests_share_no_list():
    batch = collate([make_request([2, 2]), make_request([2]), make_request([0, 1, 0])])
    assert batch.same_as_B.tolist() == [0, 0, 2, 3, 4, 3]
    assert batch.num_newest.tolist() == [12, 12, 12]
    assert batch.request_B.tolist() == [0, 0, 1, 2, 2, 2]
