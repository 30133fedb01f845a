from __future__ import annotations

import numpy as np
import pytest

from model_stage.reference import read_reference, reference_window

NAMES = ("click", "buy")


def window(seed=0, rows=5_000):
    draw = np.random.default_rng(seed)
    probability = draw.beta(1, 20, (rows, 2)).astype(np.float32)
    labels = (draw.random((rows, 2)) < probability).astype(np.float32)
    labels[::2, 1] = np.nan
    return labels, probability, np.arange(rows) + 10


def test_a_window_tells_what_its_known_rows_were_like():
    labels, probability, times = window()
    found = read_reference({"reference": reference_window(labels, probability, NAMES, times)})
    click, buy = found["click"], found["buy"]
    assert (click.rows, buy.rows) == (5_000, 2_500)
    assert (buy.from_ms, buy.until_ms) == (11, 5_009)
    assert buy.positive_rate == pytest.approx(np.nanmean(labels[:, 1]))
    assert click.mean_probability == pytest.approx(probability[:, 0].mean(), rel=1e-5)
    assert len(click.share) == 10
    assert click.share == pytest.approx([0.1] * 10, abs=1e-3)
    assert click.bins(probability[:, 0]).sum() == 5_000


def test_equal_probabilities_share_a_bin():
    labels = np.zeros((100, 1), np.float32)
    found = read_reference(
        {"reference": reference_window(labels, np.full((100, 1), 0.5, np.float32), ("x",), labels[:, 0])}
    )
    assert found["x"].bounds == (0.5,)
    assert found["x"].share == (0.0, 1.0)


def test_the_index_is_nought_for_the_same_and_grows_with_the_shift():
    labels, probability, times = window()
    click = read_reference({"reference": reference_window(labels, probability, NAMES, times)})["click"]
    _, others, _ = window(seed=1)

    def index(scores):
        return click.stability_index(click.bins(scores).astype(np.float64))

    assert index(others[:, 0]) < 0.01
    assert 0.01 < index(1.2 * others[:, 0]) < index(3 * others[:, 0])
    assert index(3 * others[:, 0]) > 0.25
    assert np.isfinite(index(np.ones(10, np.float32)))


@pytest.mark.parametrize("metrics", [{}, {"reference": {"click": {"bounds": "odd"}}}])
def test_bundles_without_one_have_none(metrics):
    assert read_reference(metrics) == {}


def test_a_target_without_labels_is_left_out():
    labels, probability, times = window()
    labels[:, 1] = np.nan
    assert list(reference_window(labels, probability, NAMES, times)) == ["click"]
