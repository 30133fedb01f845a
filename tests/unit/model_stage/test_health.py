"""Numbers of health against plain twins, what is said of them, and trainings that destroy a table or do not."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from model_stage.bundle import new_network
from model_stage.config.train import TrainConfig
from model_stage.evaluation.health import (
    AttentionHealth,
    TableHealth,
    attention_health,
    effective_rank,
    find_collapsed,
    list_overlap,
    table_health,
)
from model_stage.training import trainer
from model_stage.training.examples import Example, Examples
from model_stage.training.health import SEARCHED, HealthWatch, start_norms
from model_stage.training.learner import Learner
from model_stage.training.row_adagrad import RowAdagrad
from model_stage.training.trainer import train
from tests.worlds.networks import SCHEMA, TARGETS, config_of, make_request, vocabularies, with_history

SOUND = TableHealth(norm_median=1.0, norm_p10=0.9, effective_rank=12.0, directions=16, list_overlap=0.2)


def rank_by_svd(rows):
    values = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    share = values[values > 1e-9] / values.sum()
    return np.exp(-(share * np.log(share)).sum())


def test_effective_rank_is_that_of_the_singular_values():
    draw = np.random.default_rng(0)
    for scale in (np.ones(6), 0.1 ** np.arange(6), np.eye(6)[0]):
        rows = (draw.normal(size=(50, 6)) * scale).astype(np.float32)
        assert effective_rank(rows) == pytest.approx(rank_by_svd(rows), rel=1e-3)
    assert effective_rank(np.eye(5, dtype=np.float32)) == pytest.approx(5.0)
    assert effective_rank(np.zeros((5, 3), np.float32)) == 0.0


def test_norms_are_those_of_rows_that_did_not_start_at_zero():
    now = np.array([[3, 4], [0, 1], [9, 9], [0, 0.5]], np.float32)
    found = table_health(np.array([1, 1, 0, 1], np.float32), now)
    assert (found.norm_median, found.directions) == (1.0, 2)
    assert found.norm_p10 == pytest.approx(0.6)
    assert table_health(np.zeros(4, np.float32), now) is None


def twin_of_attention(weights, offsets):
    entropies, sharp = [], []
    for start, stop in itertools.pairwise(offsets):
        mine = np.abs(weights[start:stop])
        if len(mine) >= 3 and mine.sum():
            share = mine / mine.sum()
            entropies.append(-sum(p * np.log(p) for p in share if p) / np.log(len(mine)))
            sharp.append(share.max() > 2 / len(mine))
    return np.mean(entropies), np.mean(sharp)


def test_attention_is_measured_candidate_by_candidate():
    draw = np.random.default_rng(1)
    lengths = draw.integers(0, 9, 60)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    weights = (draw.random(offsets[-1]) ** 4 * (draw.random(offsets[-1]) < 0.9)).astype(np.float32)
    weights[offsets[9] : offsets[10]] = 0.0
    found = attention_health(weights, offsets)
    assert (found.entropy, found.sharp) == pytest.approx(twin_of_attention(weights, offsets))
    assert 0.0 < found.sharp < 1.0
    uniform = attention_health(np.repeat(1 / np.maximum(lengths, 1), lengths), offsets)
    assert (uniform.entropy, uniform.sharp) == (pytest.approx(1.0), 0.0)
    assert attention_health(np.ones(4, np.float32), np.array([0, 2, 4])) is None


def test_lists_overlap_by_their_shared_behaviors():
    table = np.array([[1, 0], [0, 1], [2, 0], [0, 2], [3, 0], [0, 3], [0.1, 0.1]], np.float32)
    history, asked = np.array([2, 3, 4, 5, 6, 6, 2]), np.array([[0, 1], [0, 0], [0, 1]])
    assert list_overlap(table, np.tile(history[:6], 2), np.array([0, 6, 12]), asked[:2], 2) == pytest.approx(0.5)
    assert list_overlap(table, history, np.array([0, 6, 7, 7]), asked, 2) == pytest.approx(0.0)
    assert list_overlap(table, history, np.array([0, 5, 7, 7]), asked, 2) is None


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (replace(SOUND, norm_median=0.01), "0.010 of the norm"),
        (replace(SOUND, effective_rank=1.3), "1.3 of 16 directions"),
        (replace(SOUND, list_overlap=0.985), "overlap by 0.98"),
    ],
)
def test_a_collapsed_table_is_named(table, words):
    (found,) = find_collapsed({"some": table}, {})
    assert found.startswith("table some has collapsed")
    assert words in found


def test_a_mean_is_named_and_a_sound_network_is_not():
    (found,) = find_collapsed({}, {"some": AttentionHealth(entropy=0.999, sharp=0.0)})
    assert "attention some has collapsed" in found
    assert find_collapsed({"some": SOUND}, {"some": AttentionHealth(entropy=0.999, sharp=0.02)}) == []
    assert find_collapsed({"some": replace(SOUND, list_overlap=None)}, {}) == []


class PenaltyInGradient(Learner):
    """How attention tables were trained until ADR 0022: Adam, the penalty part of the gradient it normalises."""

    def __init__(self, network, config, auxiliary=None):
        super().__init__(network, config, auxiliary)
        self._optimizers = [each for each in self._optimizers if not isinstance(each, RowAdagrad)]
        rate = config.learning_rate
        self._optimizers.append(torch.optim.Adam(network.attention.parameters(), lr=rate, weight_decay=1e-4))


def of_few_categories(count: int, seed: int) -> Examples:
    """The newest behavior says which candidates are clicked and which are bought. Four of nine rows are read."""
    draw, found = np.random.default_rng(seed), []
    for number in range(count):
        request = with_history(make_request([8] * 6, num_behaviors=8, seed=seed + number), source=7)
        request = replace(
            request,
            behavior_node=draw.integers(4, 6, 8).astype(np.int32),
            candidate_node=draw.integers(4, 6, 6).astype(np.int32),
        )
        chance = np.where(request.candidate_node == request.behavior_node[-1], 0.9, 0.1)
        labels = (draw.random((6, 2)) < chance[:, None]).astype(np.float32)
        labels[:2] = [[0, 1], [1, 0]]
        found.append(Example(encoded=request, labels=labels, rows=np.arange(6)))
    return Examples.of(found)


def health_after(caplog):
    network = new_network(SCHEMA, TARGETS, config_of("tin", dropout=0.0, node_init=0.3), vocabularies(), seed=0)
    config = TrainConfig(max_epochs=4, patience=4, batch_candidates=12, learning_rate=0.01)
    with caplog.at_level(logging.WARNING):
        report = train(
            network, of_few_categories(200, 0), of_few_categories(40, 1000), TARGETS.names, [1.0, 1.0], config
        )
    assert len(report.health) == len(report.validation_auc)
    return report.health[report.best_epoch], [record.getMessage() for record in caplog.records]


def test_a_penalty_in_adams_gradient_destroys_the_table_and_training_says_so(monkeypatch, caplog):
    monkeypatch.setattr(trainer, "Learner", PenaltyInGradient)
    health, said = health_after(caplog)
    assert health.tables[SEARCHED].norm_median < 0.01
    assert said == health.collapsed
    assert any(words.startswith(f"table {SEARCHED} has collapsed") for words in said)


def test_the_table_stays_sound_as_it_is_trained_now(caplog):
    health, said = health_after(caplog)
    assert health.tables[SEARCHED].norm_median > 0.9
    assert (health.collapsed, said) == ([], [])
    assert health.attentions.keys() == {"interest.0 of click", "interest.0 of buy"}


def test_a_table_taken_over_is_measured_against_its_own_start():
    network = new_network(SCHEMA, TARGETS, config_of("tin"), vocabularies(), seed=0)
    start = start_norms(network)
    with torch.no_grad():
        network.attention.node.weight *= 0.01
    measured = HealthWatch(of_few_categories(8, 0), TARGETS.names, start).measure(network)
    assert measured.tables[SEARCHED].norm_median == pytest.approx(0.01)
    assert measured.collapsed


@pytest.mark.parametrize("preset", ["pool", "popularity", "sasrec"])
def test_what_does_not_attend_to_pairs_has_no_attention_to_collapse(preset):
    network = new_network(SCHEMA, TARGETS, config_of(preset), vocabularies(), seed=0)
    measured = HealthWatch(of_few_categories(8, 0), TARGETS.names, start_norms(network)).measure(network)
    assert (measured.attentions, measured.collapsed) == ({}, [])
