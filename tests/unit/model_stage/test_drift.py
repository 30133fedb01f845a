"""What servers say of their answers against the bundle's reference window."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from model_stage.reference import reference_window
from model_stage.serving.drift import HALF_LIFE_S, Drift

ROWS = 4_000


def scores(seed, factor=1.0):
    return factor * np.random.default_rng(seed).beta(1, 20, (ROWS, 1)).astype(np.float32)


class Fixture:
    def __init__(self):
        self.registry, self.now_s = CollectorRegistry(), 0.0
        self.drift = Drift(self.registry, lambda: self.now_s)

    def observe(self, probability, bundle="one"):
        labels = (np.arange(ROWS) < scores(0).sum()).astype(np.float32)[:, None]  # as many as were to be expected
        reference = reference_window(labels, scores(0), ("click",), np.arange(ROWS))
        self.drift.observe(
            SimpleNamespace(name=bundle, metrics={"reference": reference}),
            SimpleNamespace(targets=("click",), probability=probability),
        )

    def metric(self, name):
        return self.registry.get_sample_value(f"lookback_{name}", {"target": "click"})


def test_answers_as_in_the_window_have_not_drifted():
    it = Fixture()
    it.observe(scores(1))
    assert it.metric("score_drift") < 0.02
    assert it.metric("calibration_drift_ratio") == pytest.approx(1, abs=0.1)
    assert it.metric("score_count") == ROWS


def test_answers_that_doubled_have():
    it = Fixture()
    it.observe(scores(1, 3.0))
    assert it.metric("score_drift") > 0.25
    assert it.metric("calibration_drift_ratio") == pytest.approx(3, rel=0.1)


def test_few_answers_say_nothing_and_old_ones_fade():
    it = Fixture()
    it.observe(scores(1, 3.0)[:900])
    assert it.metric("score_drift") is None
    it.observe(scores(1, 3.0))
    assert it.metric("score_drift") > 0.25
    it.now_s = 10 * HALF_LIFE_S
    assert it.metric("score_drift") is None
    it.observe(scores(2))
    assert it.metric("score_drift") < 0.02


def test_another_bundle_begins_anew_and_one_without_a_window_is_silent():
    it = Fixture()
    it.observe(scores(1, 3.0))
    it.observe(scores(2), bundle="two")
    assert it.metric("score_drift") < 0.02
    it.drift.observe(
        SimpleNamespace(name="old", metrics={}), SimpleNamespace(targets=("click",), probability=scores(3))
    )
    assert it.metric("score_drift") is None
    assert it.metric("score_count") == 3 * ROWS
