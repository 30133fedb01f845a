"""A step over touched tables: the same as over dense ones where it should be, and no pass over a whole table."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model_stage.config.train import TrainConfig
from model_stage.errors import ParameterGroupError
from model_stage.networks.parameters import ParameterGroup, trainable_parameters
from model_stage.networks.preset import preset_names
from model_stage.training.auxiliary import AuxiliaryModel
from model_stage.training.learner import Learner
from tests.worlds.networks import SCHEMA, TARGETS, batch_of, config_of, make_network, make_request

LARGE = ("attention.node.weight", "representation.node.weight", "categorical.0.weight", "categorical.1.weight")
ROW_WISE = {
    "embedding",
    "_embedding_bag",
    "index",
    "index_select",
    "index_copy_",
    "index_fill_",
    "index_add_",
    "sparse_mask",
}
"""Operations that read or write the rows they are given and no others."""
NO_WORK = {"detach", "alias"}


def network_of(std=0.1):
    network = make_network(config_of("dare", dropout=0.0), std=std)
    with torch.no_grad():
        for part in (network.attention, network.representation):
            part.node.weight[0] = 0.0  # "none", as a new network has it
    return network.train()


def some_loss(network, seed, lengths=(3, 1)):
    logit_BT = network(batch_of(make_request(lengths, num_behaviors=3, seed=seed))).logit_BT
    return torch.nn.functional.binary_cross_entropy_with_logits(logit_BT, (logit_BT > 0.1).float())


def loss_of_every_row(network, target):
    """Reads every row of every large table but "none"."""
    total = torch.zeros(())
    for part in (network.attention, network.representation):
        rows = torch.arange(1, len(part.path))
        total = total + ((part.nodes(rows) - target) ** 2).sum()
    for table in network.categorical:
        total = total + ((table(torch.arange(table.num_embeddings)) + target) ** 2).sum()
    return total


@pytest.mark.parametrize("averaging", [0.0, 0.5, 0.998])
@pytest.mark.parametrize("tables", ["dense", "touched"])
def test_the_average_is_that_of_a_pass_over_every_weight_in_every_step(tables, averaging):
    network = network_of()
    config = TrainConfig(tables=tables, averaging=averaging, learning_rate=0.05, embedding_l2=0.1)

    def update(averages, currents, steps):
        share = 1.0 - min(averaging, (1.0 + float(steps)) / (10.0 + float(steps)))
        for average, current in zip(averages, currents, strict=True):
            average.lerp_(current, share)

    control = AveragedModel(network, multi_avg_fn=torch.no_grad()(update))
    learner = Learner(network, config)
    for step in range(40):
        learner.step(some_loss(network, step % 7))
        control.update_parameters(network)
        if step in (0, 1, 20, 39):
            expected = dict(control.module.named_parameters())
            for name, average in learner.averaged().named_parameters():
                # Forty roundings of the control against one of ours.
                torch.testing.assert_close(average, expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_steps_that_touch_every_row_are_those_of_dense_tables():
    found = {}
    for tables in ("dense", "touched"):
        network = network_of()
        learner = Learner(
            network, TrainConfig(tables=tables, learning_rate=0.01, embedding_l2=0.3, attention_rate=0.05)
        )
        before = copy.deepcopy(network.state_dict())
        for step in range(30):
            learner.step(loss_of_every_row(network, np.cos(step)))
        found[tables] = network.state_dict()
    for name in LARGE:
        assert (found["dense"][name][1:] - before[name][1:]).abs().amax(1).min() > 1e-2, name
        # The two add epsilon (1e-8) before and after the correction of the second moment.
        torch.testing.assert_close(found["touched"][name], found["dense"][name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_row_that_no_step_touches_stays_as_it_is():
    moved = {}
    for tables in ("dense", "touched"):
        network = network_of()
        learner = Learner(network, TrainConfig(tables=tables))
        before = network.representation.node.weight.detach().clone()
        request = make_request((2,), num_behaviors=2)
        for _ in range(3):
            learner.step(network(batch_of(request)).logit_BT.sum())
        read = network.representation.path[[*request.behavior_node, *request.candidate_node]].unique()
        differs = (network.representation.node.weight.detach() != before).any(1)
        assert bool(differs[read[read > 0]].all())
        moved[tables] = int(differs.sum()) - int((read > 0).sum())
    assert moved["touched"] == 0
    assert moved["dense"] > 0  # L2 moves them


def test_a_fixed_table_is_neither_changed_nor_averaged():
    network = network_of()
    network.attention.requires_grad_(False)
    learner = Learner(network, TrainConfig(tables="touched"))
    before = network.attention.node.weight.clone()
    learner.step(some_loss(network, 0))
    assert torch.equal(network.attention.node.weight, before)
    assert torch.equal(learner.averaged().attention.node.weight, before)


@pytest.mark.parametrize("tables", ["dense", "touched"])
def test_a_parameter_that_no_group_names_is_refused(tables):
    network = network_of()
    network.extra = torch.nn.Linear(3, 2, bias=False)
    with pytest.raises(ParameterGroupError, match=r"'extra\.weight' is in 0 groups"):
        Learner(network, TrainConfig(tables=tables))
    network.extra.requires_grad_(False)  # fixed: there is nothing to train
    Learner(network, TrainConfig(tables=tables))


@pytest.mark.parametrize("role", ["block", "attention"])
def test_a_parameter_in_two_groups_or_twice_in_one_is_refused(role, monkeypatch):
    network = network_of()
    groups = (*network.parameter_groups(), ParameterGroup(role=role, modules=(network.attention.node,)))
    monkeypatch.setattr(network, "parameter_groups", lambda: groups)
    with pytest.raises(ParameterGroupError, match=r"'attention\.node\.weight' is in 2 groups"):
        Learner(network, TrainConfig())


def test_a_stray_parameter_of_the_auxiliary_loss_is_refused():
    config = config_of("dare")
    auxiliary = AuxiliaryModel(SCHEMA, TARGETS, config, weight=1.0, seed=0)
    auxiliary.extra = torch.nn.Linear(3, 2)
    with pytest.raises(ParameterGroupError, match="'extra"):
        Learner(network_of(), TrainConfig(), auxiliary)


@pytest.mark.parametrize("heads", ["towers", "shared_bottom", "mmoe", "ple"])
@pytest.mark.parametrize("preset", preset_names())
def test_every_parameter_of_a_preset_is_in_one_group(preset, heads):
    network = make_network(config_of(preset, heads={"kind": heads}))
    grouped = trainable_parameters(network, network.parameter_groups())
    assert {name for group in grouped.values() for name in group} == dict(network.named_parameters()).keys()


class _Passes(TorchDispatchMode):
    """Notes operations on tensors of some storages that do more than their rows."""

    def __init__(self, tables):
        super().__init__()
        self._memory = {table.untyped_storage().data_ptr() for table in tables}
        self.row_wise, self.passes = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        large = [t for t in tensors if t.layout == torch.strided and t.untyped_storage().data_ptr() in self._memory]
        if large and name not in NO_WORK:
            rows_alone = name in ROW_WISE or (name == "add_" and args[1].is_sparse)
            (self.row_wise if rows_alone else self.passes).add(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tables", ["dense", "touched"])
def test_a_step_makes_no_pass_over_a_large_table(tables):
    network = network_of()
    learner = Learner(network, TrainConfig(tables=tables))
    learner.step(some_loss(network, 0))  # the first step makes the moments
    averages = dict(learner.averaged().named_parameters())
    weights = dict(network.named_parameters())
    moments = [
        value
        for optimizer in learner._optimizers
        for name in LARGE
        for value in optimizer.state.get(weights[name], {}).values()
        if isinstance(value, torch.Tensor) and value.dim() == 2
    ]
    assert len(moments) == 2 * (len(LARGE) - 1), "the attention table has a number a row"
    paths = [network.attention.path, network.representation.path, learner.averaged().attention.path]
    with _Passes([*(weights[n] for n in LARGE), *(averages[n] for n in LARGE), *moments, *paths]) as mode:
        learner.step(some_loss(network, 1))
    assert mode.row_wise
    if tables == "touched":
        assert mode.passes == set()
    else:
        assert "lerp_" in mode.passes
