"""Heads against their formulas, and probabilities of targets that are conditional on others."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model_stage.config.targets import Target, Targets
from model_stage.networks.conditional import joint_logits, logit_of_product
from model_stage.networks.heads import (
    HeadInput,
    HeadShape,
    MixtureOfExperts,
    MmoeHeads,
    PleHeads,
    ProgressiveExtraction,
    SharedBottom,
    SharedBottomHeads,
    TargetHeads,
)
from model_stage.training.trainer import log_loss
from tests.worlds.networks import BUY, CLICK, TARGETS, config_of, make_network, make_request, run

HEADS = {
    "shared_bottom": lambda: SharedBottom(5, 3, SharedBottomHeads(kind="shared_bottom", width=4)),
    "mmoe": lambda: MixtureOfExperts(5, 3, MmoeHeads(kind="mmoe", experts=3, width=4)),
    "ple": lambda: ProgressiveExtraction(
        5, 3, PleHeads(kind="ple", layers=3, own_experts=2, shared_experts=1, width=4)
    ),
}
KINDS = ("towers", *HEADS)


@pytest.mark.parametrize("kind", HEADS)
def test_experts_give_what_the_formula_gives(kind):
    torch.manual_seed(0)
    block, x_BX = HEADS[kind](), torch.randn(6, 5, requires_grad=True)
    leaves = [x_BX, *block.parameters()]
    fast, plain = torch.cat(block(x_BX), dim=1), torch.cat(block.reference(x_BX), dim=1)
    assert fast.shape == (6, 12)
    torch.testing.assert_close(fast, plain)
    for ours, theirs in zip(
        torch.autograd.grad(fast.sum(), leaves), torch.autograd.grad(plain.sum(), leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_gates_tell_targets_apart():
    torch.manual_seed(0)
    first, second, _ = HEADS["mmoe"]()(torch.randn(6, 5))
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_towers_side_by_side_give_what_each_gives(kind):
    torch.manual_seed(0)
    shape = HeadShape(tables=(0, 1, 0), num_tables=2, own_dim=7, table_dim=5, tower=(6, 4), dropout=0.5)
    heads = TargetHeads(config_of("tin", heads={"kind": kind}).heads, shape).eval()
    x = HeadInput(
        dense_BS=torch.randn(6, 3),
        masses=[torch.randn(6, 1), torch.randn(6, 1)],
        interests=[torch.randn(6, 4), torch.randn(6, 4)],
        common_BX=torch.randn(6, 4),
    )
    fast, plain = heads(x), heads.reference(x)
    assert fast.shape == (6, 3)
    torch.testing.assert_close(fast, plain)
    mixed, leaves = torch.randn(6, 3), [*heads.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((mixed * fast).sum(), leaves),
        torch.autograd.grad((mixed * plain).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_every_kind_score_each_candidate_alone(kind):
    network = make_network(config_of("tencent", heads={"kind": kind}))
    request = make_request([4, 0, 12, 4], seed=1)
    together = run(network, request).logit_BT
    assert together.shape == (4, 2)
    for at in range(4):
        alone = run(network, request.take(np.array([at]))).logit_BT
        torch.testing.assert_close(alone[0], together[at], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", HEADS)
def test_with_experts_a_target_hears_of_the_interests_of_all(kind):
    """Positional tables of `buy` reach the score of `click` through the shared input, and with towers they do not."""
    for chosen, expected in ((kind, True), ("towers", False)):
        network = make_network(config_of("tin", heads={"kind": chosen}))
        run_of = make_request([6, 6], seed=2)
        before = run(network, run_of).logit_BT[:, 0]
        with torch.no_grad():
            for parameter in network.interest[0].tables[1].parameters():
                parameter.add_(1.0)
        moved = not torch.allclose(run(network, run_of).logit_BT[:, 0], before, atol=1e-4)
        assert moved == expected


@given(a=st.floats(-300, 300), b=st.floats(-300, 300))
def test_the_logit_of_a_product_is_that_of_the_product(a, b):
    found = logit_of_product(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)).item()
    assert math.isfinite(found)
    assert found <= min(a, b)
    if max(abs(a), abs(b)) < 30:  # beyond it the plain way has no digits left
        p = 1 / (1 + math.exp(-a)) / (1 + math.exp(-b))
        rest = (math.exp(-a) + math.exp(-b) + math.exp(-a - b)) * p
        assert found == pytest.approx(math.log(p) - math.log(rest), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4))
def test_a_chain_of_conditions_never_gains(logits):
    tower_BT = torch.tensor([logits])
    joint = joint_logits(tower_BT, [2, None, 1, 0])[0]
    assert torch.isfinite(joint).all()
    assert joint[1] == logits[1]
    assert joint[3] <= joint[0] <= joint[2] <= joint[1]
    product = torch.sigmoid(tower_BT[0].double()).prod()
    torch.testing.assert_close(torch.sigmoid(joint[3].double()), product, atol=1e-5, rtol=1e-4)


def test_a_conditional_target_is_learned_over_all_impressions():
    """ESMM: with the product's loss over every impression the factors become p(click) and p(buy | click)."""
    draw = np.random.default_rng(0)
    click = draw.random(40_000) < 0.3
    buy = click & (draw.random(40_000) < 0.2)
    labels = torch.from_numpy(np.stack([click, buy], axis=1).astype(np.float32))
    tower_T = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.LBFGS([tower_T], max_iter=50)

    def step():
        optimizer.zero_grad()
        loss = log_loss(joint_logits(tower_T.expand(len(labels), 2), [None, 0]), labels, torch.ones(2))
        loss.backward()
        return loss

    optimizer.step(step)
    p_click, p_buy_given_click = torch.sigmoid(tower_T).tolist()
    assert p_click == pytest.approx(click.mean(), abs=1e-3)
    assert p_buy_given_click == pytest.approx(buy.sum() / click.sum(), abs=2e-3)


def test_unknown_labels_of_a_conditional_target_teach_nothing():
    tower_BT = torch.zeros(2, 2, requires_grad=True)
    labels = torch.tensor([[1.0, torch.nan], [0.0, 0.0]])
    log_loss(joint_logits(tower_BT, [None, 0]), labels, torch.ones(2)).backward()
    assert tower_BT.grad is not None
    assert tower_BT.grad[0, 1] == 0.0
    assert tower_BT.grad[1, 1] != 0.0


def test_a_network_answers_a_conditional_target_below_its_condition():
    given_click = Targets(targets=(CLICK, BUY.model_copy(update={"given": "click"})))
    plain = make_network(config_of("tin"), TARGETS)
    conditional = make_network(config_of("tin"), given_click)
    request = make_request([4, 0, 12], seed=1)
    tower, joint = run(plain, request).logit_BT, run(conditional, request).logit_BT
    assert torch.equal(joint[:, 0], tower[:, 0])
    product = torch.sigmoid(tower).prod(1)
    torch.testing.assert_close(torch.sigmoid(joint[:, 1]), product)


def test_conditions_are_places_in_file_order():
    chain = Targets(targets=(Target(name="pay", given="buy"), Target(name="click"), Target(name="buy", given="click")))
    assert chain.given == (2, None, 1)
