"""Row-wise Adagrad: its formula, dense and sparse alike, and a row without a gradient keeps its bits."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from model_stage.config.train import TrainConfig
from model_stage.training.learner import Learner
from model_stage.training.row_adagrad import RowAdagrad
from tests.worlds.networks import batch_of, config_of, make_network, make_request, with_history

STEPS = 300


def changed(start, gradients, rate):
    """The formula, row by row."""
    table, sums = start.astype(np.float64), np.zeros(len(start))
    for gradient in gradients:
        for row in range(len(table)):
            if gradient[row].any():
                sums[row] += (gradient[row] ** 2).mean()
                table[row] -= rate * gradient[row] / np.sqrt(sums[row])
    return table


@pytest.mark.parametrize("sparse", [False, True])
def test_the_formula(sparse):
    draw = np.random.default_rng(0)
    start = draw.normal(size=(7, 4)).astype(np.float32)
    gradients = (
        draw.normal(size=(20, 7, 4)) * 10.0 ** draw.integers(-7, 3, (20, 7, 1)) * (draw.random((20, 7, 1)) < 0.4)
    )
    gradients = gradients.astype(np.float32)
    table = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = RowAdagrad([table], rate=0.3)
    for gradient in torch.from_numpy(gradients):
        table.grad = gradient.to_sparse(1).coalesce() if sparse else gradient.clone()
        optimizer.step()
    np.testing.assert_allclose(table.detach().numpy(), changed(start, gradients, 0.3), rtol=1e-4, atol=1e-5)


def test_the_state_is_one_number_a_row():
    table = torch.nn.Parameter(torch.randn(5, 4))
    optimizer = RowAdagrad([table], rate=0.1)
    table.grad = torch.ones(5, 4)
    optimizer.step()
    assert [value.shape for value in optimizer.state[table].values()] == [(5,)]


@pytest.mark.parametrize("tables", ["dense", "touched"])
@pytest.mark.parametrize("preset", ["tin", "tencent", "dare"])
def test_rows_that_no_step_reads_keep_their_bits(preset, tables):
    network = make_network(config_of(preset), std=0.1).train()
    with torch.no_grad():
        network.attention.node.weight[0] = 0.0  # "none", as a new network has it
    learner = Learner(network, TrainConfig(tables=tables))
    table = network.attention.node.weight
    before = table.detach().clone()
    request = with_history(make_request((4, 4, 2), num_behaviors=5), behavior_node=4, candidate_node=5)
    other = copy.deepcopy(request)
    other.behavior_node[:2] = 6
    batches = [batch_of(request), batch_of(other)]
    for step in range(STEPS):
        logit_BT = network(batches[step % 2]).logit_BT
        learner.step(torch.nn.functional.binary_cross_entropy_with_logits(logit_BT, (logit_BT > 0.1).float()))
    read = network.attention.path[[4, 5, 6]].unique()
    unread = torch.ones(len(table), dtype=torch.bool)
    unread[read] = False
    for found in (table, learner.averaged().attention.node.weight):
        assert torch.equal(found[unread], before[unread])
        assert bool((found[read[read > 0]] != before[read[read > 0]]).any(1).all())


@pytest.mark.parametrize("tables", ["dense", "touched"])
def test_a_step_of_training_is_that_of_its_own_gradient(tables):
    network = make_network(config_of("tin"), std=0.1)
    learner = Learner(network, TrainConfig(tables=tables, attention_rate=0.05))
    table = network.attention.node.weight
    start, gradients = table.detach().numpy().copy(), []
    for step in range(6):
        rows = torch.arange(1, 20) if step % 2 else torch.arange(1, 5)
        loss = ((network.attention.nodes(rows) - np.cos(step)) ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, table, retain_graph=True)
        gradients.append(gradient.to_dense().numpy())
        learner.step(loss)
    np.testing.assert_allclose(table.detach().numpy(), changed(start, gradients, 0.05), rtol=1e-4, atol=1e-5)
