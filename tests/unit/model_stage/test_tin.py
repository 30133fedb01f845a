"""TIN: the fast path equals the formulas, in outputs and gradients, and obeys its invariances."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.blocks.pairs import AttentionInput
from model_stage.blocks.ragged import offsets_to_segments, segment_softmax
from model_stage.blocks.tin import TIN
from model_stage.config.targets import IntervalPosition, MatchLevelPosition, RankPosition

POSITIONS = (
    RankPosition(kind="rank", buckets=4),
    IntervalPosition(kind="interval", buckets=3),
    MatchLevelPosition(kind="match_level", levels=2),
)


def make_input(seed: int, lengths: list[int], num_behaviors: int, attention_dim: int, width: int) -> AttentionInput:
    generator = torch.Generator().manual_seed(seed)
    num_pairs = sum(lengths)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return AttentionInput(
        attention_UA=draw(num_behaviors, attention_dim).requires_grad_(),
        attention_BA=draw(len(lengths), attention_dim).requires_grad_(),
        representation_UR=draw(num_behaviors, width).requires_grad_(),
        representation_BR=draw(len(lengths), width).requires_grad_(),
        behavior_M=torch.randint(num_behaviors, (num_pairs,), generator=generator).int(),
        pair_offsets=torch.tensor([0, *itertools.accumulate(lengths)]),
        buckets={p: torch.randint(p.buckets, (num_pairs,), generator=generator) for p in POSITIONS},
    )


def gradients(block: TIN, x: AttentionInput, output: torch.Tensor) -> list[torch.Tensor]:
    leaves = [x.attention_UA, x.attention_BA, x.representation_UR, x.representation_BR, *block.parameters()]
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    found = torch.autograd.grad((output * weights).sum(), leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    num_behaviors=st.integers(1, 8),
    dims=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_fast_path_equals_the_formulas_in_outputs_and_gradients(seed, lengths, num_behaviors, dims):
    x = make_input(seed, lengths, num_behaviors, *dims)
    torch.manual_seed(seed)
    block = TIN(POSITIONS, *dims)
    fast, plain = block(x), block.reference(x)
    # float32 sums in another order: a few units in the last place.
    torch.testing.assert_close(fast.weight_WM.T, plain.weight_WM.T, rtol=1e-4, atol=1e-5)
    for got, expected in ((fast.representation_BR, plain.representation_BR), (fast.mass_BW, plain.mass_BW)):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(gradients(block, x, got), gradients(block, x, expected), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_equals_an_independent_numpy_implementation_of_the_paper():
    torch.manual_seed(0)
    x = make_input(1, [5], 5, 4, 4)
    block = TIN(POSITIONS[:1], 4, 4)
    x = replace(x, buckets={POSITIONS[0]: x.buckets[POSITIONS[0]]}, behavior_M=torch.arange(5, dtype=torch.int32))
    output = block(x)
    key = x.attention_UA.detach().numpy() + block.attention_positions.rows[0].detach().numpy()[x.buckets[POSITIONS[0]]]
    query = x.attention_BA[0].detach().numpy() + block.attention_positions.candidate_row.detach().numpy()
    logits = key @ query / np.sqrt(4)
    attention = np.exp(logits) / np.exp(logits).sum()
    item = (
        x.representation_UR.detach().numpy()
        + block.representation_positions.rows[0].detach().numpy()[x.buckets[POSITIONS[0]]]
    )
    value = x.representation_BR[0].detach().numpy() + block.representation_positions.candidate_row.detach().numpy()
    np.testing.assert_allclose(output.weight_WM.T[:, 0].detach().numpy(), attention, atol=1e-5)
    np.testing.assert_allclose(output.mass_BW.item(), np.log1p(np.exp(logits).sum()), atol=1e-5)
    pooled = output.representation_BR[0].detach().numpy()
    np.testing.assert_allclose(pooled, (attention[:, None] * item * value).sum(0), atol=1e-5)


def test_attention_tables_get_no_gradient_from_the_pooled_values_when_weights_are_fixed():
    """DARE's separation: with one behavior the weight is 1 whatever the attention table says."""
    x = make_input(3, [1], 1, 3, 3)
    output = TIN(POSITIONS, 3, 3)(x).representation_BR
    attention, representation = torch.autograd.grad(output.sum(), [x.attention_UA, x.representation_UR])
    assert torch.count_nonzero(attention) == 0
    assert torch.count_nonzero(representation) == 3


def test_a_candidate_without_behaviors_gets_zeros_and_finite_gradients():
    x = make_input(4, [0, 2], 3, 2, 2)
    output = TIN(POSITIONS, 2, 2)(x)
    assert torch.count_nonzero(output.representation_BR[0]) == 0
    assert output.mass_BW[0] == 0.0
    assert output.weight_WM.T.shape == (2, 1)
    (gradient,) = torch.autograd.grad(output.representation_BR.sum() + output.mass_BW.sum(), [x.attention_BA])
    assert torch.isfinite(gradient).all()


def test_segment_softmax_survives_extreme_scores_and_sums_to_one():
    segments = offsets_to_segments(torch.tensor([0, 3, 3, 5]))
    assert segments.tolist() == [0, 0, 0, 2, 2]
    weights, mass = segment_softmax(torch.tensor([1e30, -1e30, 1e30, -1e4, -1e4]), segments, 3)
    assert weights.tolist() == pytest.approx([0.5, 0.0, 0.5, 0.5, 0.5])
    assert mass.tolist() == pytest.approx([1e30, 0.0, 0.0])
