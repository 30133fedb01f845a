"""The hierarchy: where sessions begin, and what a session says to every candidate."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from model_stage.blocks.hierarchy import Hierarchy, sessions_of
from tests.worlds.list_blocks import DIM, HIERARCHY, MINUTE_MS, make_lists


def test_sessions_of_the_picture_in_the_docstring():
    minutes = torch.tensor([300, 290, 20, 5, 1, 9])
    session_N, offsets = sessions_of(minutes * MINUTE_MS, torch.tensor([0, 5, 6]), 30)
    assert session_N.tolist() == [0, 0, 1, 1, 1, 2]
    assert offsets.tolist() == [0, 2, 3]


def test_a_gap_of_exactly_the_limit_joins_and_a_millisecond_more_cuts():
    interval_ms = torch.tensor([61 * MINUTE_MS + 1, 31 * MINUTE_MS, MINUTE_MS])
    session_N, _ = sessions_of(interval_ms, torch.tensor([0, 3]), 30)
    assert session_N.tolist() == [0, 1, 1]


def test_lists_are_never_joined_and_empty_ones_have_no_session():
    session_N, offsets = sessions_of(torch.zeros(3, dtype=torch.int64), torch.tensor([0, 0, 2, 2, 3, 3]), 30)
    assert session_N.tolist() == [0, 0, 1]
    assert offsets.tolist() == [0, 0, 1, 1, 2, 2]


def test_within_a_session_the_shares_are_the_same_for_every_candidate():
    torch.manual_seed(0)
    block = Hierarchy((), DIM, HIERARCHY.model_copy(update={"gap_minutes": 1e9}))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    found = block(replace(make_lists([5], [0, 0]).x, buckets=()))
    first, second = (part / part.sum() for part in found.weight_M.view(2, 5))
    torch.testing.assert_close(first, second)
    assert found.rest_B[0] != found.rest_B[1]
