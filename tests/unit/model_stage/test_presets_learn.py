"""Every preset learns a signal that only its attention can carry, and nothing from noise. Generated data.

A candidate is clicked with probability 0.9 when a behavior of its own category was retrieved, else 0.1; it is bought
the other way round. All candidates of a request retrieve the same behaviors, and nothing else tells them apart.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from model_stage.bundle import new_network
from model_stage.config.train import TrainConfig
from model_stage.encoding.batch import EncodedRequest
from model_stage.evaluation.metrics import auc
from model_stage.networks.preset import preset_names
from model_stage.training.examples import Example, Examples
from model_stage.training.trainer import predict, train
from tests.worlds.networks import SCHEMA, TARGETS, config_of, make_request, vocabularies, with_history

if TYPE_CHECKING:
    from model_stage.networks.network import RankingNetwork

CONFIG = TrainConfig(
    max_epochs=6,
    patience=16,
    batch_candidates=128,
    learning_rate=0.005,
    weight_decay=0.0,
    embedding_l2=0.0,
    averaging=0.9,
)
ROUNDS = 6
"""Trainings at most, each from where the one before ended."""
MARGIN = 0.05
"""What the rounds aim at beyond the bar, on requests that are not tested."""
CANDIDATES, BEHAVIORS = 6, 4
NEAR = 0.8
"""What a preset must reach of the way from chance to the ceiling."""
LESS = {"pool": 0.5}  # a mean does not say which behavior is whose
REPEATED = {"longer": 4}  # it merges four behaviors: here they are of one category, as neighbours often are
NOISE_BOUND = 3 * 0.29 / 225**0.5
"""Three standard errors of an AUC of 450 positives and as many negatives: 0.29 / sqrt(p n / (p + n)) each."""
NOISE_FAMILIES = ("tin", "din_full", "sasrec", "tencent")


def chance_of(request: EncodedRequest, *, noise: bool) -> np.ndarray:
    """Gives the true probability of a click."""
    matched = np.isin(request.candidate_node, request.behavior_node)
    return np.full(CANDIDATES, 0.5) if noise else np.where(matched, 0.9, 0.1)


@cache
def examples(count: int, seed: int, repeated: int, *, noise: bool) -> list[Example]:
    draw, found = np.random.default_rng(seed), []
    length = BEHAVIORS * repeated
    for number in range(count):
        request = make_request([length] * CANDIDATES, num_behaviors=length, seed=seed + number)
        request = with_history(request, source=7, categorical=2, dense=0.0, match_level=255)
        request = replace(
            request,
            behavior_node=np.repeat(draw.integers(4, 10, BEHAVIORS), repeated).astype(np.int32),
            candidate_node=draw.integers(4, 10, CANDIDATES).astype(np.int32),
        )
        chance = chance_of(request, noise=noise)
        clicked, bought = draw.random((2, CANDIDATES)) < np.stack([chance, 1 - chance])
        labels = np.stack([clicked, bought], axis=1).astype(np.float32)
        found.append(Example(encoded=request, labels=labels, rows=np.arange(CANDIDATES)))
    return found


def ceiling_of(tested: list[Example]) -> list[float]:
    """Gives the AUC of the true probabilities."""
    labels = np.concatenate([example.labels for example in tested])
    chance = np.concatenate([chance_of(example.encoded, noise=False) for example in tested])
    return [auc(labels[:, 0], chance), auc(labels[:, 1], 1 - chance)]


def aucs_of(network: RankingNetwork, tested: list[Example]) -> list[float]:
    labels, probability = np.concatenate([example.labels for example in tested]), predict(network, Examples.of(tested))
    return [auc(labels[:, at], probability[:, at]) for at in range(2)]


def share_of_ceiling(network: RankingNetwork, tested: list[Example]) -> float:
    """Gives how far the worse target came from chance, 0, to its ceiling, 1."""
    pairs = zip(aucs_of(network, tested), ceiling_of(tested), strict=True)
    return min((found - 0.5) / (best - 0.5) for found, best in pairs)


def train_until(aim: float, network: RankingNetwork, shown: list[Example], watched: list[Example]) -> bool:
    """Trains in rounds, which is what makes this quick; gives whether the aim was reached."""
    for number in range(ROUNDS):
        train(
            network,
            Examples.of(shown),
            Examples.of(watched),
            TARGETS.names,
            [1.0, 1.0],
            CONFIG.model_copy(update={"seed": number}),
        )
        if share_of_ceiling(network, watched) > aim:
            return True
    return False


def network_of(preset: str) -> RankingNetwork:
    return new_network(
        SCHEMA, TARGETS, config_of(preset, tower=[32], dropout=0.0, node_init=0.5), vocabularies(), seed=0
    )


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_learns_what_its_behaviors_say(preset):
    network, repeated = network_of(preset), REPEATED.get(preset, 1)
    shown, later = examples(400, 0, repeated, noise=False), examples(400, 10_000, repeated, noise=False)
    watched, tested = later[:200], later[200:]
    assert min(ceiling_of(tested)) > 0.85, "there is no strong signal: the test says nothing"
    aim = LESS.get(preset, NEAR)
    reached = train_until(aim + MARGIN, network, shown, watched)
    if preset == "popularity":  # reads no behavior
        assert all(abs(found - 0.5) < NOISE_BOUND for found in aucs_of(network, tested))
    else:
        assert reached, "not learned in the time it has"
        assert share_of_ceiling(network, tested) > aim


@pytest.mark.parametrize("preset", NOISE_FAMILIES)
def test_a_preset_learns_nothing_from_noise(preset):
    network = network_of(preset)
    shown, later = examples(400, 0, 1, noise=True), examples(200, 10_000, 1, noise=True)
    train(
        network,
        Examples.of(shown),
        Examples.of(later[:50]),
        TARGETS.names,
        [1.0, 1.0],
        CONFIG.model_copy(update={"max_epochs": 16}),
    )
    assert max(abs(found - 0.5) for found in aucs_of(network, later[50:])) < NOISE_BOUND
