"""A shadow scores what was served again, and says how far it agrees."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from scipy.stats import spearmanr

from model_stage.errors import BundleError
from model_stage.inspection.synthetic_request import synthetic_request
from model_stage.ranking.ranker import Ranker
from model_stage.serving import shadow as module
from model_stage.serving.served_log.record import Served
from model_stage.serving.shadow import Shadow, rank_correlation
from model_stage.types import Answer
from serving import make_logger
from store.errors import GenerationError
from store.publishing.generation import swap_current
from tests.worlds.bundles import opened, publish


class Watched:
    def __init__(self, root):
        self.registry, self.stream = CollectorRegistry(), io.StringIO()
        self.shadow = Shadow(root, 1.0, None, None, self.registry, make_logger("ranking", self.stream))

    def count(self, result):
        return self.registry.get_sample_value("lookback_shadow_requests_total", {"result": result})

    def gauge(self, name, target="click"):
        return self.registry.get_sample_value(f"lookback_shadow_{name}", {"target": target})

    def wait_for(self, result, number):
        give_up_s = time.monotonic() + 30
        while self.count(result) != number or self.gauge("mean_difference") is None:
            assert time.monotonic() < give_up_s, self.stream.getvalue()
            time.sleep(0.01)


def served_by(ranker, number=1, *, index_model=""):
    categories = np.array([10, 20, 30, 40, 10, 20], np.uint64)
    request, found = synthetic_request(ranker.bundle, categories, [3 * 86_400_000, 86_400_000 * number], [0, 1])
    found = module.replace(found, index_model=index_model, index_generation="i")
    return Served(
        request_id=f"r{number}",
        served_ms=1,
        request=request,
        answer=Answer(result=ranker.score(request, found), found=found),
        bundle=ranker.bundle,
    )


def test_a_shadow_that_is_the_same_bundle_agrees_in_everything(tmp_path):
    ranker = Ranker(opened(tmp_path), None)
    watched = Watched(tmp_path)
    for number in range(1, 4):
        watched.shadow.offer(served_by(ranker, number))
    watched.wait_for("scored", 3)
    watched.shadow.close()
    assert watched.gauge("rank_correlation") == pytest.approx(1.0)
    assert watched.gauge("mean_difference", "buy") == 0.0
    assert watched.gauge("calibration_ratio") == 1.0


def test_another_bundle_is_compared_by_order_mean_and_ratio(tmp_path):
    ranker, other = Ranker(opened(tmp_path / "a"), None), Ranker(opened(tmp_path / "b", seed=3), None)
    watched = Watched(tmp_path / "b")
    served = [served_by(ranker, number) for number in range(1, 6)]
    for each in served:
        watched.shadow.offer(each)
    watched.wait_for("scored", 5)
    watched.shadow.close()
    theirs = [other.score(each.request, each.answer.found).probability[:, 0].astype(np.float64) for each in served]
    ours = [each.answer.result.probability[:, 0].astype(np.float64) for each in served]
    correlation = np.mean([spearmanr(a, b).statistic for a, b in zip(ours, theirs, strict=True)])
    assert watched.gauge("rank_correlation") == pytest.approx(correlation)
    assert watched.gauge("rank_correlation") < 0.999
    assert watched.gauge("mean_difference") == pytest.approx(np.mean(theirs) - np.mean(ours))
    assert watched.gauge("calibration_ratio") == pytest.approx(np.mean(theirs) / np.mean(ours))


def test_what_a_shadow_fails_with_is_counted_and_said_once(tmp_path):
    ranker = Ranker(opened(tmp_path), None)
    watched = Watched(tmp_path)
    for number in range(1, 4):
        watched.shadow.offer(served_by(ranker, number, index_model="20200101-000000-00000000"))
    watched.shadow.offer(served_by(ranker, 4))
    watched.wait_for("scored", 1)
    watched.shadow.close()
    assert watched.count("failed") == 3
    assert watched.stream.getvalue().count("holds the vectors of model") == 1


def test_a_shadow_follows_its_root_and_a_bad_one_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    first = publish(tmp_path)
    ranker = Ranker(opened(tmp_path), None)
    swap_current(tmp_path, first)
    watched = Watched(tmp_path)
    swap_current(tmp_path, "20200101-000000-00000000")
    watched.shadow.offer(served_by(ranker))
    watched.wait_for("scored", 1)
    assert "shadow refused" in watched.stream.getvalue()
    second = publish(tmp_path, seed=4)
    give_up_s = time.monotonic() + 30
    while f'"shadow": "{second}"' not in watched.stream.getvalue():
        assert time.monotonic() < give_up_s, watched.stream.getvalue()
        watched.shadow.offer(served_by(ranker))
        time.sleep(0.05)
    watched.shadow.close()


def test_a_shadow_that_cannot_be_opened_is_refused_at_the_start(tmp_path):
    with pytest.raises((GenerationError, BundleError)):
        Watched(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_that_of_scipy_with_ties(seed):
    draw = np.random.default_rng(seed)
    left, right = (draw.integers(0, 6, 20).astype(np.float32) for _ in range(2))
    assert rank_correlation(left, right) == pytest.approx(spearmanr(left, right).statistic)
    assert np.isnan(rank_correlation(left, np.ones(20, np.float32)))
