"""The sum over a path: that of `embedding_bag`, which is its definition, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.networks.embeddings import PathEmbedding
from tests.worlds.networks import SCHEMA, vocabularies

NUM_ROWS = len(vocabularies().tree.path)


def summed(embedding, rows, weight, gradient, *, plain):
    with torch.no_grad():
        embedding.node.weight.copy_(weight)
    embedding.node.weight.grad = None
    if plain:
        found = torch.nn.functional.embedding_bag(
            embedding.path[rows], embedding.node.weight, mode="sum", padding_idx=0
        )
    else:
        found = embedding.summed_nodes(rows)
    found.backward(gradient)
    return found.detach(), embedding.node.weight.grad


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.integers(0, NUM_ROWS - 1), max_size=40),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.int32, torch.int64]),
)
def test_equals_embedding_bag(rows, seed, dtype):
    """Row 0, "none", counts nothing whatever it holds, and hears of nothing."""
    draw = np.random.default_rng(seed)
    embedding = PathEmbedding(vocabularies(), SCHEMA, 8, 0.02)
    weight = torch.from_numpy(draw.normal(size=(NUM_ROWS, 8)).astype(np.float32))
    gradient = torch.from_numpy(draw.normal(size=(len(rows), 8)).astype(np.float32))
    asked = torch.tensor(rows, dtype=dtype)
    found, moved = summed(embedding, asked, weight, gradient, plain=False)
    expected, expected_moved = summed(embedding, asked, weight, gradient, plain=True)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moved, expected_moved, rtol=1e-5, atol=1e-5)  # sums of another order
    assert not moved[0].any()


@pytest.mark.parametrize("sparse", [True, False])
def test_a_fixed_table_has_no_gradient(sparse):
    embedding = PathEmbedding(vocabularies(), SCHEMA, 8, 0.02)
    embedding.node.sparse = sparse
    embedding.requires_grad_(False)
    found = embedding.summed_nodes(torch.tensor([3, 0, 12]))
    assert not found.requires_grad
    assert not found[1].any()
