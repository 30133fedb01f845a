"""Does the whole of it learn: near the ceiling where there is a signal, nothing where there is none. Generated data."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.generate.dataset import Settings, generate
from scripts.pipeline import CONFIGS, build, score_test


def learn(tmp_path, signal: float, requests: int) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Generates a small dataset and runs the whole job on it; gives the test report and the ceiling."""
    settings = Settings(seed=3, users=150, mean_behaviors=100, requests=requests, signal=signal)
    ceiling = generate(settings, tmp_path / "data")
    quiet = lambda what, done, total: None  # noqa: E731
    roots = build(tmp_path / "data", CONFIGS / "generated", tmp_path, quiet, seed=1)
    scored = score_test(tmp_path / "data", roots, quiet)
    assert np.isfinite(scored.probability).all()
    return scored.metrics, ceiling


def test_a_strong_signal_is_learned(tmp_path):
    report, ceiling = learn(tmp_path, signal=2.0, requests=2000)
    for target, numbers in report.items():
        best = ceiling[f"{target}_auc_ceiling"]
        assert best > 0.85, "the generated signal is not strong; the test says nothing"
        # Above chance by at least four fifths of what the true probabilities are.
        assert numbers["auc"] - 0.5 > 0.8 * (best - 0.5), (target, numbers, best)
        assert numbers["mean_probability"] == pytest.approx(numbers["positives"] / numbers["impressions"], rel=0.25)


def test_nothing_is_learned_from_noise(tmp_path):
    report, _ = learn(tmp_path, signal=0.0, requests=1000)
    for target, numbers in report.items():
        # Three standard errors of an AUC at this number of positives.
        bound = 3 * 0.29 / numbers["positives"] ** 0.5
        assert abs(numbers["auc"] - 0.5) < bound, (target, numbers)
