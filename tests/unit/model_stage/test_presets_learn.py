"""Every preset learns a signal that only its attention can carry, and nothing from noise. Generated data.

A candidate is clicked with probability 0.9 when a behavior of its own category was retrieved, else 0.1; it is bought
the other way round. All candidates of a request retrieve the same behaviors, and nothing else tells them apart.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from model_stage.bundle import new_network
from model_stage.encoder import EncodedRequest
from model_stage.evaluation.metrics import auc
from model_stage.networks.preset import preset_names
from model_stage.training.config import TrainConfig
from model_stage.training.trainer import Example, predict, train
from tests.unit.model_stage.networks import SCHEMA, TARGETS, config_of, make_request, vocabularies, with_history

CONFIG = TrainConfig(
    max_epochs=30,
    patience=30,
    batch_candidates=256,
    learning_rate=0.005,
    weight_decay=0.0,
    embedding_l2=0.0,
    averaging=0.9,
)
CANDIDATES, BEHAVIORS = 6, 4
NEAR = 0.7
"""What a preset must reach of the way from chance to the ceiling."""
LESS = {
    "pool": 0.3,  # a mean does not say which behavior is whose
    "longer": 0.5,  # four behaviors are one merged token
    "sdim": 0.5,  # random planes part eight dimensions only roughly
}
NOISE_BOUND = 3 * 0.29 / 225**0.5
"""Three standard errors of an AUC of 450 positives and as many negatives: 0.29 / sqrt(p n / (p + n)) each."""
NOISE_FAMILIES = ("tin", "din_full", "sasrec", "tencent")

pytestmark = pytest.mark.slow


def chance_of(request: EncodedRequest, *, noise: bool) -> np.ndarray:
    """Gives the true probability of a click."""
    matched = np.isin(request.candidate_node, request.behavior_node)
    return np.full(CANDIDATES, 0.5) if noise else np.where(matched, 0.9, 0.1)


@cache
def examples(count: int, seed: int, *, noise: bool) -> list[Example]:
    draw, found = np.random.default_rng(seed), []
    for number in range(count):
        request = make_request([BEHAVIORS] * CANDIDATES, num_behaviors=BEHAVIORS, seed=seed + number)
        request = with_history(request, source=7, categorical=2, dense=0.0, match_level=255)
        request = replace(
            request,
            behavior_node=draw.integers(4, 10, BEHAVIORS).astype(np.int32),
            candidate_node=draw.integers(4, 10, CANDIDATES).astype(np.int32),
        )
        chance = chance_of(request, noise=noise)
        clicked, bought = draw.random((2, CANDIDATES)) < np.stack([chance, 1 - chance])
        labels = np.stack([clicked, bought], axis=1).astype(np.float32)
        found.append(Example(encoded=request, labels=labels, rows=np.arange(CANDIDATES)))
    return found


def aucs_of(preset: str, *, noise: bool) -> tuple[list[float], list[float]]:
    """Gives the AUC of a trained network on later requests, and that of the true probabilities."""
    network = new_network(SCHEMA, TARGETS, config_of(preset, tower=[32], dropout=0.0), vocabularies(), seed=0)
    shown, later = examples(400, 0, noise=noise), examples(200, 10_000, noise=noise)
    train(network, shown, later[:50], TARGETS.names, [1.0, 1.0], CONFIG)
    tested = later[50:]
    labels, probability = np.concatenate([example.labels for example in tested]), predict(network, tested)
    chance = np.concatenate([chance_of(example.encoded, noise=noise) for example in tested])
    found = [auc(labels[:, at], probability[:, at]) for at in range(2)]
    return found, [auc(labels[:, 0], chance), auc(labels[:, 1], 1 - chance)]


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_learns_what_its_behaviors_say(preset):
    found, ceiling = aucs_of(preset, noise=False)
    assert min(ceiling) > 0.85, "there is no strong signal: the test says nothing"
    for reached, best in zip(found, ceiling, strict=True):
        if preset == "popularity":  # reads no behavior
            assert abs(reached - 0.5) < NOISE_BOUND
        else:
            assert reached - 0.5 > LESS.get(preset, NEAR) * (best - 0.5)


@pytest.mark.parametrize("preset", NOISE_FAMILIES)
def test_a_preset_learns_nothing_from_noise(preset):
    found, _ = aucs_of(preset, noise=True)
    assert max(abs(reached - 0.5) for reached in found) < NOISE_BOUND
