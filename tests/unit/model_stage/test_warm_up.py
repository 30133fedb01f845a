"""A bundle is warm before a request can get it, and one that cannot score is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model_stage.errors import BundleError, SearchUnavailableError
from model_stage.inspection.synthetic_request import synthetic_request
from model_stage.networks import RankingNetwork
from model_stage.serving import service
from model_stage.serving.service import CurrentRanker
from model_stage.serving.warm_up import SIZES, warm_up
from tests.worlds.bundles import opened, publish


class Nobody:
    """A retriever that does not answer."""

    def search(self, request, deadline=None):
        raise SearchUnavailableError("nobody is here")


def test_a_bundle_is_warm_before_it_serves_at_the_start_and_at_a_swap(tmp_path, monkeypatch):
    scored, warmed = [], []
    forward = RankingNetwork.forward

    def noted(network, batch):
        scored.append((len(batch.candidate_node_B), len(batch.behavior_M)))
        return forward(network, batch)

    monkeypatch.setattr(RankingNetwork, "forward", noted)
    names = [publish(tmp_path, seed=0)]
    current = CurrentRanker(tmp_path, Nobody())
    every_size = [(count, count * each) for count, each in SIZES for _ in range(2)]
    assert scored == every_size

    def beside_the_old_one(bundle, recorded):
        scored.clear()
        warm_up(bundle, recorded)
        warmed.append((bundle.name, current.served()["bundle"], list(scored)))

    monkeypatch.setattr(service, "warm_up", beside_the_old_one)
    names.append(publish(tmp_path, seed=1))
    current.reload()
    assert warmed == [(names[1], names[0], every_size)]
    assert current.served() == {"bundle": names[1]}


def test_a_bundle_that_cannot_score_is_refused_and_the_old_one_stays(tmp_path, monkeypatch):
    good = opened(tmp_path, seed=0).name
    current = CurrentRanker(tmp_path, Nobody())
    bad = publish(tmp_path, seed=1)

    def fails(network, batch):
        raise RuntimeError("no kernel for this machine")

    monkeypatch.setattr(RankingNetwork, "forward", fails)
    with pytest.raises(BundleError, match=f"bundle {bad} cannot score a made-up request .no kernel for this machine"):
        current.reload()
    assert current.served() == {"bundle": good}


def test_recorded_requests_are_scored_after_the_made_up_ones(tmp_path, monkeypatch):
    bundle = opened(tmp_path)
    request, found = synthetic_request(bundle, np.array([10, 20, 30], np.uint64), [5, 3], [0, 1])
    of_another_schema = replace(request, candidate_fields={"colour": np.zeros(3, np.float32)})
    scored, forward = [], RankingNetwork.forward

    def noted(network, batch):
        scored.append(len(batch.candidate_node_B))
        return forward(network, batch)

    monkeypatch.setattr(RankingNetwork, "forward", noted)
    warm_up(bundle, [(request, found), (of_another_schema, found), (request, found)])
    assert scored == [*(count for count, _ in SIZES for _ in range(2)), 3, 3]
    monkeypatch.setattr(
        RankingNetwork,
        "forward",
        lambda network, batch: forward(network, batch) if len(batch.candidate_node_B) != 3 else 1 / 0,
    )
    with pytest.raises(BundleError, match=r"cannot score a recorded request"):
        warm_up(bundle, [(request, found)])
