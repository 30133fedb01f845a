"""DARE equals the paper, keeps its two table sets apart, and learns about what its search dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from model_stage.blocks.dare import DARE, auxiliary_loss
from model_stage.blocks.pairs import top_k_reference
from tests.unit.model_stage.pair_blocks import DIM, POSITIONS, make_block, make_input


def test_equals_an_independent_numpy_implementation_of_the_paper():
    x = make_input([5, 3], 6)
    block = DARE(POSITIONS[:1], DIM, 2)
    for parameter in block.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    x = replace(x, buckets=x.buckets[:1])
    output = block(x)
    as_numpy = lambda tensor: tensor.detach().numpy().astype(np.float64)  # noqa: E731
    time_attention, time_representation = block.attention_positions, block.representation_positions
    for candidate, rows in enumerate((slice(0, 5), slice(5, 8))):
        behaviors, buckets = x.behavior_M[rows].numpy(), x.buckets[0][rows].numpy()
        semantic = as_numpy(x.attention_UA)[behaviors] @ as_numpy(x.attention_BA)[candidate] / np.sqrt(DIM)
        time = as_numpy(time_attention.rows[0])[buckets] @ as_numpy(time_attention.candidate_row) / np.sqrt(2)
        exponential = np.exp(semantic + time)
        weight = exponential / exponential.sum()
        times = as_numpy(time_representation.rows[0])[buckets]
        seen = np.concatenate([as_numpy(x.representation_UR)[behaviors], times], axis=1)
        own = np.concatenate([as_numpy(x.representation_BR)[candidate], as_numpy(time_representation.candidate_row)])
        pooled = weight @ seen
        expected = np.concatenate([pooled, pooled * own])
        np.testing.assert_allclose(as_numpy(output.weight_MW)[rows, 0], weight, atol=1e-5)
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
        buckets=[torch.zeros_like(b) for b in x.buckets],
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


def test_auxiliary_loss_teaches_the_attention_table_about_rows_the_search_dropped():
    block, x = make_block("dare"), make_input([6], 6)
    x = replace(x, behavior_M=torch.arange(6))
    kept = block.search(x, 2)
    dropped = [row for row in range(6) if row not in kept.tolist()]
    head = nn.Linear(DIM + block.out_dim, 1)
    chosen = block(x.take(kept)).representation_BR.sum()
    (gradient,) = torch.autograd.grad(chosen, [x.attention_UA])
    assert torch.count_nonzero(gradient[dropped]) == 0
    loss = auxiliary_loss(block, head, x, torch.tensor([1.0]))
    gradient, of_head = torch.autograd.grad(loss, [x.attention_UA, head.weight])
    assert loss.shape == ()
    assert torch.count_nonzero(gradient[dropped]) == DIM * len(dropped)
    assert torch.isfinite(of_head).all()


def test_auxiliary_loss_by_hand():
    block, x = make_block("dare"), make_input([2, 3], 4)
    head = nn.Linear(DIM + block.out_dim, 1)
    with torch.no_grad():
        probability = torch.sigmoid(head(torch.cat([x.representation_BR, block(x).representation_BR], dim=1))[:, 0])
        expected = -(torch.log(probability[0]) + torch.log(1 - probability[1])) / 2
    torch.testing.assert_close(auxiliary_loss(block, head, x, torch.tensor([1, 0])), expected)
