"""The verdict on two bundles: the rule itself, and that it sees what is there and claims nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from model_stage.evaluation.metrics import logloss
from model_stage.evaluation.verdict import Gain, compare, judge

TARGETS = ("click", "buy")


def gain(low: float, high: float) -> Gain:
    return Gain(target="click", metric="auc", ours=0.7, theirs=0.7, gain=(low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(
    ("spans", "outcome"),
    [
        ([(0.001, 0.01)], "ship"),
        ([(0.001, 0.01), (-0.004, 0.01)], "ship"),
        ([(0.001, 0.01), (-0.006, 0.01)], "not enough data"),
        ([(-0.004, 0.01)], "not enough data"),
        ([(0.001, 0.01), (-0.004, -0.001)], "do not ship"),
        ([(-0.2, -0.1), (-0.5, 0.5)], "do not ship"),
        ([(0.0, 0.0)], "not enough data"),
        ([], "not enough data"),
    ],
)
def test_the_rule(spans, outcome):
    found, reasons = judge([gain(*span) for span in spans], tolerance=0.005)
    assert found == outcome
    assert reasons


def sample(num_users: int, ours: float, theirs: float):
    """Labels of two targets, and two scorings that see so much of the truth."""
    draw = np.random.default_rng(3)
    user = np.repeat(np.arange(num_users, dtype=np.uint64), 20)
    truth = draw.normal(size=(len(user), 2))
    labels = (draw.random(truth.shape) < 1 / (1 + np.exp(2.0 - 2 * truth))).astype(np.float32)
    labels[::7, 1] = np.nan

    def scores(seen: float):
        return (1 / (1 + np.exp(2.0 - 2 * (seen * truth + 0.1 * draw.normal(size=truth.shape))))).astype(np.float32)

    return labels, scores(ours), scores(theirs), user


@pytest.mark.parametrize(
    ("num_users", "ours", "theirs", "outcome"),
    [(300, 1.0, 0.2, "ship"), (300, 0.2, 1.0, "do not ship"), (4, 0.5, 0.45, "not enough data")],
)
def test_it_sees_what_is_there(num_users, ours, theirs, outcome):
    found = compare(*sample(num_users, ours, theirs), TARGETS, resamples=200)
    assert found.outcome == outcome
    assert [(each.target, each.metric) for each in found.gains] == [
        (target, metric) for target in TARGETS for metric in ("auc", "gauc", "logloss")
    ]
    assert all(each.low <= each.gain <= each.high for each in found.gains)


def test_a_gain_in_log_loss_is_the_share_that_it_is_smaller():
    labels, ours, theirs, user = sample(50, 1.0, 0.5)
    found = compare(labels, ours, theirs, user, TARGETS, resamples=100).gains[2]
    ours_loss, theirs_loss = logloss(labels[:, 0], ours[:, 0]), logloss(labels[:, 0], theirs[:, 0])
    assert found.gain == pytest.approx((theirs_loss - ours_loss) / theirs_loss)
    assert found.low > 0.0


def test_a_bundle_beside_itself_and_a_target_of_one_class_are_no_reason_to_ship():
    labels, ours, _, user = sample(50, 1.0, 0.5)
    labels[:, 1] = 0.0
    found = compare(labels, ours, ours, user, TARGETS, resamples=100)
    assert (found.outcome, found.reasons) == ("not enough data", ("nothing is certainly better",))
    assert {(each.target, each.gain, each.low, each.high) for each in found.gains} == {("click", 0.0, 0.0, 0.0)}
