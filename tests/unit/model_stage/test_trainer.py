"""The optimisation loop over networks of every preset: equal seeds, every parameter reached, fixed ones fixed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from model_stage.cli import app
from model_stage.config.targets import Targets
from model_stage.config.train import TrainConfig
from model_stage.evaluation.metrics import auc
from model_stage.networks.preset import preset_names
from model_stage.training import trainer
from model_stage.training.examples import Example, Examples
from model_stage.training.learner import Learner
from model_stage.training.trainer import train
from tests.worlds.networks import TARGETS, config_of, make_network, make_request

CONFIG = TrainConfig(max_epochs=1, batch_candidates=8, averaging=0.0)


def examples() -> Examples:
    found = []
    for seed in range(6):
        request = make_request([8, 3, 8, 0], seed=seed)
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, (4, 2)).astype(np.float32)
        labels[:2, :] = [[0, 1], [1, 0]]  # both classes, whatever is drawn
        labels[3, 1] = np.nan
        found.append(Example(encoded=request, labels=labels, rows=np.arange(4)))
    return Examples.of(found)


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


def test_every_target_starts_at_its_share_of_positives():
    """Of four impressions with a known label three were clicked, and one of those three was bought."""
    given = (TARGETS.targets[0], TARGETS.targets[1].model_copy(update={"given": TARGETS.names[0]}))
    network = make_network(config_of("popularity"), Targets(targets=given))
    network.fit_shares(torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [torch.nan, torch.nan]]))
    start = [each[-1].bias.item() for each in network.towers.towers]
    click, buy = 3.5 / 5, 1.5 / 5
    np.testing.assert_allclose(start, [np.log(click / (1 - click)), np.log(buy / (click - buy))], rtol=1e-5)


def test_where_nothing_can_be_measured_the_last_epoch_is_kept_averaged(monkeypatch):
    kept = []
    averaged = Learner.averaged

    def remember(learner):
        found = averaged(learner)
        kept.append({name: value.clone() for name, value in found.state_dict().items()})
        return found

    monkeypatch.setattr(Learner, "averaged", remember)
    unlabelled = examples()
    unlabelled.labels[:] = 0.0
    network = make_network(config_of("popularity"), std=0.1)
    config = CONFIG.model_copy(update={"max_epochs": 3, "averaging": 0.9, "patience": 1})
    report = train(network, examples(), unlabelled, TARGETS.names, [1.0, 1.0], config)
    assert (report.best_epoch, len(kept)) == (2, 3)
    assert all(torch.equal(value, kept[2][name]) for name, value in network.state_dict().items())
    assert all(np.isnan(value) for aucs in report.validation_auc for value in aucs.values())


def test_epochs_are_compared_by_logits_not_by_what_float32_leaves_of_probabilities(monkeypatch):
    found = examples()
    logits = np.linspace(20, 40, found.labels.size, dtype=np.float32).reshape(found.labels.shape)
    monkeypatch.setattr(trainer, "logits_of", lambda network, examples: logits)
    aucs = trainer._validation_auc(None, found, TARGETS.names)
    known = ~np.isnan(found.labels[:, 1])
    assert aucs[TARGETS.names[1]] == auc(found.labels[known, 1], np.arange(len(known))[known])


@pytest.mark.parametrize("label", [0.0, 1.0, np.nan])
def test_a_target_with_one_class_or_none_starts_at_a_finite_logit(label):
    network = make_network(config_of("popularity"))
    network.fit_shares(torch.full((50, 2), label))
    assert all(abs(each[-1].bias.item()) < 6 for each in network.towers.towers)


def test_a_constant_dense_input_is_nothing_whatever_it_is():
    """Its mean, rounded, is not quite it: the rest must not be blown up to the size of other inputs."""
    network = make_network(config_of("popularity"))
    width = len(network.dense_mean)
    network.fit_dense(torch.full((300_000, width), 6.5958052))
    torch.testing.assert_close(network.dense_scale, torch.ones(width))


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


def faked_validation(monkeypatch, epochs):
    """Has every target reach a given AUC in each epoch, whatever the weights."""
    values = iter([value for value in epochs for _ in TARGETS.names])
    monkeypatch.setattr(trainer, "auc", lambda label, score: next(values))


def run_epochs(config):
    network = make_network(config_of("tin"), std=0.1)
    report = train(network, examples(), examples(), TARGETS.names, [1.0, 1.0], config)
    return report, network.state_dict()


@pytest.mark.parametrize(("measured", "best", "epochs"), [([0.9, 0.6, 0.5, 0.99], 0, 3), ([0.5, 0.9, 0.6, 0.5], 1, 4)])
def test_the_best_epoch_is_kept_and_patience_ends_the_loop(measured, best, epochs, monkeypatch):
    config = CONFIG.model_copy(update={"patience": 2})
    _, expected = run_epochs(config.model_copy(update={"max_epochs": best + 1}))
    _, later = run_epochs(config.model_copy(update={"max_epochs": epochs}))
    faked_validation(monkeypatch, measured)
    report, kept = run_epochs(config.model_copy(update={"max_epochs": 9}))
    assert (report.best_epoch, len(report.validation_auc), len(report.train_loss)) == (best, epochs, epochs)
    assert all(torch.equal(kept[name], value) for name, value in expected.items())
    assert not all(torch.equal(kept[name], value) for name, value in later.items())


def test_what_is_kept_is_the_running_average(monkeypatch):
    seen = []

    class Watched(Learner):
        def averaged(self):
            average = super().averaged()
            seen.append({name: value.clone() for name, value in average.state_dict().items()})
            return average

    class Raw(Learner):
        def averaged(self):
            return self.network

        def __init__(self, network, *options):
            super().__init__(network, *options)
            self.network = network

    config = CONFIG.model_copy(update={"averaging": 0.9})
    monkeypatch.setattr(trainer, "Learner", Watched)
    _, kept = run_epochs(config)
    monkeypatch.setattr(trainer, "Learner", Raw)
    _, raw = run_epochs(config)
    (average,) = seen
    learned = [name for name, value in raw.items() if not torch.equal(value, average[name])]
    assert "towers.towers.0.0.weight" in learned
    assert all(torch.equal(kept[name], value) for name, value in average.items())


def test_the_command_lists_every_preset():
    shown = CliRunner().invoke(app, ["presets"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    rows = [line for line in shown.output.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == preset_names()
