"""Sums over pairs: top k, taking pairs, spreading weights, lists as pairs."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.blocks.pairs import list_pairs, spread_weights, top_k_pairs, top_k_reference
from tests.worlds.pair_blocks import make_input, ragged_lengths


@settings(max_examples=40)
@given(lengths=ragged_lengths, top_k=st.integers(0, 7), data=st.data())
def test_top_k_equals_sorting_each_candidate_and_prefers_the_newer_of_equals(lengths, top_k, data):
    num_pairs = sum(lengths)
    scores = data.draw(st.lists(st.integers(-2, 2), min_size=num_pairs, max_size=num_pairs))
    candidate_M = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    score_M = torch.tensor(scores, dtype=torch.float32)
    got = top_k_pairs(score_M, candidate_M, top_k)
    assert got.tolist() == top_k_reference(score_M, candidate_M, top_k).tolist()


def test_top_k_by_hand():
    candidate_M = torch.tensor([0, 0, 0, 2, 2])
    assert top_k_pairs(torch.tensor([1.0, 3.0, 1.0, -5.0, -4.0]), candidate_M, 2).tolist() == [1, 2, 3, 4]
    assert top_k_pairs(torch.tensor([1.0, 3.0, 1.0, -5.0, -4.0]), candidate_M, 1).tolist() == [1, 4]


def test_taking_pairs_keeps_their_positions():
    x = make_input([3, 0, 2], 4)
    kept = torch.tensor([1, 2, 4])
    taken = x.take(kept)
    assert taken.candidate_M.tolist() == [0, 0, 2]
    assert taken.behavior_M.tolist() == x.behavior_M[kept].tolist()
    assert {p: b.tolist() for p, b in taken.buckets.items()} == {p: b[kept].tolist() for p, b in x.buckets.items()}
    assert taken.num_candidates == 3


def test_spread_weights_are_zero_where_nothing_was_kept():
    spread = spread_weights(torch.tensor([[0.25, 0.75], [0.5, 0.5]]), torch.tensor([1, 3]), 4)
    assert spread.tolist() == [[0, 0.25, 0, 0.75], [0, 0.5, 0, 0.5]]


def test_lists_as_pairs_by_hand():
    row_M, candidate_M = list_pairs(torch.tensor([0, 2, 2, 3]), torch.tensor([0, 2, 1, 0]))
    assert row_M.tolist() == [0, 1, 2, 0, 1]
    assert candidate_M.tolist() == [0, 0, 1, 3, 3]
