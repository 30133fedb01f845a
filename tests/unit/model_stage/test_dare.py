"""DARE equals the paper, keeps its two table sets apart, and learns about what its search dropped."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model_stage.blocks.dare import DARE, WholeHistories
from model_stage.blocks.pairs import AttentionInput, top_k_reference
from tests.worlds.pair_blocks import DIM, POSITIONS, make_block, make_input


def test_equals_an_independent_numpy_implementation_of_the_paper():
    x = make_input([5, 3], 6)
    block = DARE(POSITIONS[:1], DIM, 2)
    for parameter in block.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    x = replace(x, buckets={POSITIONS[0]: x.buckets[POSITIONS[0]]})
    output = block(x)
    as_numpy = lambda tensor: tensor.detach().numpy().astype(np.float64)  # noqa: E731
    time_attention, time_representation = block.attention_positions, block.representation_positions
    for candidate, rows in enumerate((slice(0, 5), slice(5, 8))):
        behaviors, buckets = x.behavior_M[rows].numpy(), x.buckets[POSITIONS[0]][rows].numpy()
        semantic = as_numpy(x.attention_UA)[behaviors] @ as_numpy(x.attention_BA)[candidate] / np.sqrt(DIM)
        time = as_numpy(time_attention.rows[0])[buckets] @ as_numpy(time_attention.candidate_row) / np.sqrt(2)
        exponential = np.exp(semantic + time)
        weight = exponential / exponential.sum()
        times = as_numpy(time_representation.rows[0])[buckets]
        seen = np.concatenate([as_numpy(x.representation_UR)[behaviors], times], axis=1)
        own = np.concatenate([as_numpy(x.representation_BR)[candidate], as_numpy(time_representation.candidate_row)])
        pooled = weight @ seen
        expected = np.concatenate([pooled, pooled * own])
        np.testing.assert_allclose(as_numpy(output.weight_WM.T)[rows, 0], weight, atol=1e-5)
        np.testing.assert_allclose(as_numpy(output.representation_BR)[candidate], expected, atol=1e-5)
        np.testing.assert_allclose(output.mass_BW[candidate].item(), np.log1p(exponential.sum()), atol=1e-5)


def table_gradients(block, x):
    """Gives the gradients of the attention side and of the representation side."""
    attention = [x.attention_UA, x.attention_BA, *block.attention_positions.parameters()]
    representation = [x.representation_UR, x.representation_BR, *block.representation_positions.parameters()]
    output = block(x).representation_BR.sum()
    return [
        [
            None if g is None else g.clone()
            for g in torch.autograd.grad(output, side, allow_unused=True, retain_graph=True)
        ]
        for side in (attention, representation)
    ]


def test_each_table_set_learns_as_if_the_other_were_constant():
    block, x = make_block("dare"), make_input([4, 3], 6)
    attention, representation = table_gradients(block, x)
    assert all(torch.count_nonzero(g) for g in (*attention, *representation))
    constant = replace(
        x, representation_UR=x.representation_UR.detach(), representation_BR=x.representation_BR.detach()
    )
    output = block(constant).representation_BR.sum()
    for ours, theirs in zip(attention[:2], torch.autograd.grad(output, [x.attention_UA, x.attention_BA]), strict=True):
        assert torch.equal(ours, theirs)
    constant = replace(x, attention_UA=x.attention_UA.detach(), attention_BA=x.attention_BA.detach())
    output = block(constant).representation_BR.sum()
    found = torch.autograd.grad(output, [x.representation_UR, x.representation_BR])
    for ours, theirs in zip(representation[:2], found, strict=True):
        assert torch.equal(ours, theirs)


def test_the_attention_tables_say_where_to_look_and_nothing_else():
    """Behaviors that look alike to the representation tables give the attention tables no gradient."""
    block, x = make_block("dare"), make_input([4], 5)
    x = replace(
        x,
        representation_UR=torch.ones_like(x.representation_UR).requires_grad_(),
        buckets={p: torch.zeros_like(b) for p, b in x.buckets.items()},
    )
    attention, representation = table_gradients(block, x)
    for gradient in attention[:2]:
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)
    assert all(torch.count_nonzero(g) for g in representation[:2])


def test_search_keeps_the_pairs_of_highest_score():
    block, x = make_block("dare"), make_input([6, 1, 4], 8)
    kept = block.search(x, 2)
    assert kept.tolist() == top_k_reference(block.scores(x), x.candidate_M, 2).tolist()
    assert len(kept) == 5


def whole_histories(lengths, candidates, seed=0):
    """Gives whole histories, and the same as pairs of every candidate with every row of its request."""
    num_rows, num_candidates = sum(lengths), sum(candidates)
    generator = torch.Generator().manual_seed(seed)
    draw = lambda rows: torch.randn(rows, DIM, generator=generator).requires_grad_()  # noqa: E731
    whole = WholeHistories(
        attention_HA=draw(num_rows),
        representation_HR=draw(num_rows),
        buckets=[torch.randint(0, p.buckets, (num_rows,), generator=generator) for p in POSITIONS],
        lengths=lengths,
        attention_BA=draw(num_candidates),
        representation_BR=draw(num_candidates),
        candidates=candidates,
    )
    rows = torch.arange(num_rows).split(list(lengths))
    mine = [row for row, count in zip(rows, candidates, strict=True) for _ in range(count)]
    behavior_M = torch.cat([torch.zeros(0, dtype=torch.int64), *mine])
    pairs = AttentionInput(
        attention_UA=whole.attention_HA,
        attention_BA=whole.attention_BA,
        representation_UR=whole.representation_HR,
        representation_BR=whole.representation_BR,
        behavior_M=behavior_M.int(),
        pair_offsets=torch.tensor([0, *itertools.accumulate(len(row) for row in mine)]),
        buckets={p: bucket_H[behavior_M] for p, bucket_H in zip(POSITIONS, whole.buckets, strict=True)},
    )
    return whole, pairs


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=4), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_whole_histories_are_attended_over_as_all_their_pairs_are(sizes, seed):
    whole, pairs = whole_histories(*zip(*sizes, strict=True), seed)
    block = make_block("dare", seed)
    inputs = [whole.attention_HA, whole.representation_HR, whole.attention_BA, whole.representation_BR]
    found = [block.attend_whole(whole), block(pairs).representation_BR]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
    weight = torch.linspace(-1, 1, found[0].numel()).view_as(found[0])
    ours, theirs = (
        torch.autograd.grad((weight * one).sum(), [*inputs, *block.parameters()], allow_unused=True) for one in found
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_whole_histories_teach_the_attention_table_about_rows_the_search_dropped():
    whole, pairs = whole_histories([6], [1])
    block = make_block("dare")
    kept = block.search(pairs, 2)
    dropped = [row for row in range(6) if row not in kept.tolist()]
    chosen = block(pairs.take(kept)).representation_BR.sum()
    (gradient,) = torch.autograd.grad(chosen, [pairs.attention_UA])
    assert torch.count_nonzero(gradient[dropped]) == 0
    (gradient,) = torch.autograd.grad(block.attend_whole(whole).sum(), [whole.attention_HA])
    assert torch.count_nonzero(gradient[dropped]) == DIM * len(dropped)
