"""Target-decoupled SASRec: what is shared and what is not, causality, and pre-ranking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from model_stage.blocks.ragged import Layout
from model_stage.blocks.sasrec import TargetDecoupledSASRec
from model_stage.blocks.sequence import TransformerLayer, causal_layers
from tests.worlds.list_blocks import DIM, POSITIONS, make_lists


def make_block(layers=1):
    torch.manual_seed(0)
    block = TargetDecoupledSASRec(POSITIONS[:1], (POSITIONS, POSITIONS[1:]), DIM, 2, layers)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def read(block, x):
    return block(replace(x, buckets=x.buckets[:1]), (x.buckets, x.buckets[1:]))


def test_a_target_trains_its_own_part_and_what_is_shared_only():
    block, x = make_block(), make_lists([4, 2], [0, 1]).x
    read(block, x).score_BJ[:, 0].sum().backward()
    own, other = block.parts
    assert all(parameter.grad.any() for parameter in own.parameters())
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in other.parameters())
    assert all(parameter.grad.any() for parameter in [*block.layers.parameters(), *block.positions.parameters()])


def test_prerank_gives_the_scores_of_the_ranker():
    block, x = make_block(), make_lists([4, 0, 7], [0] * 6 + [1, 2]).x
    found = read(block, x)
    scores_LJC = block.prerank(found.users, x.candidate_BD)
    assert scores_LJC.shape == (3, 2, 8)
    torch.testing.assert_close(scores_LJC[x.list_B, :, torch.arange(8)], found.score_BJ, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.score_BJ, found.representation_BJD.sum(2))


def test_a_planted_future_row_changes_nothing_before_it():
    torch.manual_seed(0)
    layers = nn.ModuleList(TransformerLayer(DIM, 2) for _ in range(2))
    rows_ND, layout = torch.randn(9, DIM), Layout.of_lists(torch.tensor([0, 6, 9]))
    planted_ND = rows_ND.clone()
    planted_ND[4] += 100.0
    before, after = causal_layers(layers, rows_ND, layout), causal_layers(layers, planted_ND, layout)
    changed = (before != after).any(1)
    assert changed.tolist() == [False] * 4 + [True] * 2 + [False] * 3


def test_equals_an_independent_numpy_implementation():
    """One list, one target, no shared layer: the paper's layer, with the readout of the module docstring."""
    block = make_block(layers=0)
    x = make_lists([5], [0]).x
    found = read(block, x)
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in block.named_parameters()}

    def norm(rows, name):
        centred = rows - rows.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    part = "parts.1."
    rows = x.values_ND.detach().numpy() + weights["positions.rows.0"][x.buckets[0]]
    rows = rows + weights[part + "positions.rows.0"][x.buckets[1]]
    normed = norm(rows, part + "layer.attention_norm")
    query, key, value = (normed @ weights[f"{part}layer.to_{name}.weight"].T for name in ("query", "key", "value"))
    heads = []
    for head in (slice(0, 2), slice(2, 4)):
        logits = np.where(np.tri(5, dtype=bool), query[:, head] @ key[:, head].T / np.sqrt(2), -np.inf)
        attention = np.exp(logits - logits.max(1, keepdims=True))
        heads.append(attention / attention.sum(1, keepdims=True) @ value[:, head])
    rows = rows + np.hstack(heads) @ weights[part + "layer.to_out.weight"].T + weights[part + "layer.to_out.bias"]
    hidden = norm(rows, part + "layer.feed_forward_norm") @ weights[part + "layer.feed_forward.0.weight"].T
    hidden = np.maximum(hidden + weights[part + "layer.feed_forward.0.bias"], 0)
    rows = rows + hidden @ weights[part + "layer.feed_forward.2.weight"].T + weights[part + "layer.feed_forward.2.bias"]
    vector = norm(rows, part + "norm")[-1]
    start = x.candidate_BD.detach().numpy()[0] + weights["positions.candidate_row"]
    start = start + weights[part + "positions.candidate_row"]
    score = vector @ (weights[part + "readout.weight"] @ start + weights[part + "readout.bias"])
    np.testing.assert_allclose(found.users.vector_LJD[0, 1].detach().numpy(), vector, atol=1e-5)
    np.testing.assert_allclose(found.score_BJ[0, 1].item(), score, atol=1e-4)
