"""The optimisation loop over networks of every preset: equal seeds, every parameter reached, fixed ones fixed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from model_stage.cli import app
from model_stage.config.train import TrainConfig
from model_stage.networks.preset import preset_names
from model_stage.training.trainer import Example, train
from tests.worlds.networks import TARGETS, config_of, make_network, make_request

CONFIG = TrainConfig(max_epochs=1, batch_candidates=8, averaging=0.0)


def examples() -> list[Example]:
    found = []
    for seed in range(6):
        request = make_request([8, 3, 8, 0], seed=seed)
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, (4, 2)).astype(np.float32)
        labels[:2, :] = [[0, 1], [1, 0]]  # both classes, whatever is drawn
        labels[3, 1] = np.nan
        found.append(Example(encoded=request, labels=labels, rows=np.arange(4)))
    return found


def trained(preset: str, heads: str = "towers", fixed: tuple[str, ...] = (), config: TrainConfig = CONFIG):
    network = make_network(config_of(preset, heads={"kind": heads}), std=0.1)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(fixed) if fixed else True)
    before = {name: value.clone() for name, value in network.named_parameters()}
    report = train(network, examples(), examples(), TARGETS.names, [1.0, 1.0], config)
    assert np.isfinite(report.train_loss).all()
    after = dict(network.named_parameters())
    return {name for name in before if not torch.equal(before[name], after[name])}, after


@pytest.mark.parametrize("preset", ["tencent", "longer", "memory", "popularity"])
@pytest.mark.parametrize("heads", ["towers", "ple"])
def test_every_parameter_with_a_gradient_learns(preset, heads):
    moved, after = trained(preset, heads)
    unread = {"popularity": ("attention.",), "longer": ("attention.",), "memory": ("attention.",)}.get(preset, ())
    if preset == "popularity":  # behaviors are not read: their side-info has no say
        unread += ("representation.side",)
    assert {name for name in after if not name.startswith(unread)} == moved


def test_a_fixed_attention_table_stays_fixed():
    moved, _ = trained("tencent", fixed=("attention.",))
    assert moved
    assert not any(name.startswith("attention.") for name in moved)


def test_touched_tables_learn_all_that_dense_ones_do():
    moved, _ = trained("tencent", config=CONFIG.model_copy(update={"tables": "touched"}))
    assert moved == trained("tencent")[0]


@pytest.mark.parametrize("tables", ["dense", "touched"])
def test_equal_seeds_give_equal_weights_whatever_was_drawn_before(tables):
    config = CONFIG.model_copy(update={"tables": tables})
    _, first = trained("tencent", config=config)
    torch.rand(7)
    _, second = trained("tencent", config=config)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_the_command_lists_every_preset():
    shown = CliRunner().invoke(app, ["presets"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.output.splitlines()[1:]] == preset_names()
