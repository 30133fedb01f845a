"""TWIN and ETA: search inside the block, and SimHash codes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.blocks.eta import ETA
from model_stage.blocks.pairs import top_k_reference
from model_stage.blocks.sim_attention import SIMAttention
from model_stage.blocks.simhash import MAX_BITS, SimHash, hamming, hamming_reference
from tests.worlds.pair_blocks import DIM, POSITIONS, make_block, make_input, outputs_of


def test_twin_searches_with_the_scores_it_ranks_with():
    block, x = make_block("twin"), make_input([6, 1, 4], 8)
    kept = block.search(x, 3)
    assert kept.tolist() == top_k_reference(block.scores(x).mean(1), x.candidate_M, 3).tolist()
    weight_MW = torch.cat([torch.softmax(s, dim=0) for s in block.scores(x).split([6, 1, 4])])
    torch.testing.assert_close(block(x).weight_WM.T, weight_MW)
    assert block.search(x, 6).tolist() == list(range(11))


def test_twin_cross_features_move_scores_and_values():
    block, x = make_block("twin"), make_input([4], 1)
    same = replace(x, buckets={p: torch.zeros_like(b) for p, b in x.buckets.items()})
    torch.testing.assert_close(block(same).weight_WM.T, torch.full((4, 2), 0.25))
    assert not torch.allclose(block(x).weight_WM.T, torch.full((4, 2), 0.25), atol=1e-2)
    other = replace(same, buckets={p: torch.ones_like(b) for p, b in x.buckets.items()})
    assert not torch.allclose(block(other).representation_BR, block(same).representation_BR, atol=1e-2)


def test_eta_with_room_for_all_is_its_attention():
    x = make_input([5, 2], 6)
    attention = SIMAttention(POSITIONS, DIM, 2, 2, 3)
    for ours, theirs in zip(outputs_of(ETA(attention, DIM, 8, 5)(x)), outputs_of(attention(x)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_eta_keeps_the_behavior_that_equals_the_candidate():
    x = make_input([5], 5)
    equal = x.representation_UR.detach().clone()
    equal[2], equal[[0, 1, 3, 4]] = x.representation_BR[0].detach(), -x.representation_BR[0].detach()
    x = replace(x, representation_UR=equal, behavior_M=torch.arange(5, dtype=torch.int32))
    block = ETA(SIMAttention(POSITIONS, DIM, 2, 2, 3), DIM, 16, 1)
    assert block.search(x).tolist() == [2]
    assert block(x).weight_WM.T.tolist() == [[0, 0], [0, 0], [1, 1], [0, 0], [0, 0]]


@settings(max_examples=30)
@given(bits=st.integers(1, MAX_BITS), seed=st.integers(0, 2**31))
def test_hamming_distance_of_codes_counts_differing_sides(bits, seed):
    torch.manual_seed(seed)
    simhash, embedding = SimHash(3, bits), torch.randn(2, 7, 3)
    codes, sides = [simhash(e) for e in embedding], [simhash.bits(e) for e in embedding]
    assert hamming(*codes).tolist() == hamming_reference(*sides).tolist()
    assert all((code >> bits == 0).all() for code in codes)


def test_sides_differ_as_often_as_the_angle_says():
    torch.manual_seed(0)
    angle = math.pi / 3
    pair = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    hashes = [SimHash(2, 60)(pair) for _ in range(40)]
    differing = sum(int(hamming(code[:1], code[1:])) for code in hashes) / (40 * 60)
    assert differing == pytest.approx(1 / 3, abs=0.04)  # 2,400 bits: four deviations of 0.0096


def test_codes_survive_a_cast_and_reach_the_weights_file():
    simhash, embedding = SimHash(4, 32), torch.randn(9, 4)
    before = simhash(embedding)
    assert list(simhash.state_dict()) == ["planes_DK"]
    assert torch.equal(simhash.to(torch.bfloat16)(embedding), before)


@pytest.mark.parametrize("bits", [0, 64])
def test_a_code_must_fit_its_word(bits):
    with pytest.raises(ValueError, match=f"bits: {bits} is not in 1 .. 63"):
        SimHash(4, bits)
