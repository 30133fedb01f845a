"""Calibration: what scikit-learn says, never falling, always finite; a broken file is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from model_stage.calibration import Calibration, Isotonic, Platt, read_calibration
from model_stage.errors import BundleError
from model_stage.evaluation.metrics import logloss
from model_stage.evaluation.reliability import calibration_error, reliability
from model_stage.training.calibrate import MIN_PER_CLASS, fit_calibration, fit_isotonic, fit_platt

EXTREMES = np.array([-np.inf, -3e38, -1e4, -30, -1, -1e-9, 0, 1e-9, 1, 30, 1e4, 3e38, np.inf])[:, None]
logits = st.floats(-1e6, 1e6, width=32)


def generated(seed=0, slope=0.5, intercept=-1.0, rows=4000):
    """Logits of an over-confident network, and labels drawn from what they should have said."""
    draw = np.random.default_rng(seed)
    logit = draw.normal(0.0, 3.0, rows)
    label = (draw.random(rows) < 1 / (1 + np.exp(-(slope * logit + intercept)))).astype(np.float32)
    return label, logit


def one(fitted):
    return Calibration(by_target={"click": fitted})


fitted_maps = st.one_of(
    st.builds(Platt, slope=st.floats(1e-6, 1e6), intercept=st.floats(-1e6, 1e6)),
    st.lists(st.tuples(logits, st.floats(0, 1)), min_size=1, max_size=8, unique_by=lambda knot: knot[0]).map(
        lambda knots: Isotonic(
            logit=tuple(sorted(x for x, _ in knots)), probability_at=tuple(sorted(y for _, y in knots))
        )
    ),
)


@settings(deadline=None)
@given(fitted=fitted_maps, values=st.lists(logits, min_size=1, max_size=20))
def test_a_probability_never_falls_with_the_logit_and_stays_within_bounds(fitted, values):
    asked = np.sort(np.concatenate((np.array(values), EXTREMES[:, 0])))[:, None]
    for calibration in (one(fitted), Calibration()):
        found = calibration.probabilities(asked, ["click"])
        assert found.dtype == np.float64
        assert np.isfinite(found).all()
        assert found.min() >= 0.0
        assert found.max() <= 1.0
        assert (np.diff(found[:, 0]) >= 0.0).all()


def test_a_target_without_an_entry_is_left_as_it_is():
    calibration = one(Platt(slope=2.0, intercept=0.5))
    found = calibration.probabilities(np.array([[0.3, 0.3]]), ["click", "buy"])
    np.testing.assert_allclose(found, [[1 / (1 + np.exp(-1.1)), 1 / (1 + np.exp(-0.3))]], rtol=1e-6)
    assert (calibration.kind("click"), calibration.kind("buy")) == ("platt", "identity")


def test_isotonic_equals_scikit_learns_own_prediction():
    label, logit = generated()
    twin = IsotonicRegression(y_min=1 / 4002, y_max=1 - 1 / 4002, out_of_bounds="clip").fit(logit, label)
    asked = np.concatenate((np.random.default_rng(1).normal(0, 5, 500), [-1e30, 1e30]))
    found = one(fit_isotonic(label, logit)).probabilities(asked[:, None], ["click"])[:, 0]
    np.testing.assert_allclose(found, twin.predict(asked), atol=1e-7)
    assert 0.0 < found.min() < found.max() < 1.0


def test_platt_equals_scikit_learns_own_prediction():
    label, logit = generated()
    # The twin knows nothing of softened labels: they move the answer by one row in as many as there are.
    twin = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], label)
    asked = np.linspace(-12, 12, 101)[:, None]
    found = one(fit_platt(label, logit)).probabilities(asked, ["click"])[:, 0]
    np.testing.assert_allclose(found, twin.predict_proba(asked)[:, 1], atol=2e-3)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_fit_mends_an_over_confident_network_on_rows_it_has_not_seen(method):
    label, logit = generated()
    calibration = fit_calibration(label[:, None], logit[:, None].astype(np.float32), ["click"], method)
    new_label, new_logit = generated(seed=7)
    before = Calibration().probabilities(new_logit[:, None], ["click"])[:, 0]
    after = calibration.probabilities(new_logit[:, None], ["click"])[:, 0]
    assert calibration_error(new_label, before) > 0.1
    assert calibration_error(new_label, after) < 0.03
    assert logloss(new_label, after) < logloss(new_label, before) - 0.1


def test_separable_rows_have_a_finite_slope():
    logit = np.concatenate((np.linspace(-2, -1, 20), np.linspace(1, 2, 20)))
    fitted = fit_platt((logit > 0).astype(np.float32), logit)
    assert fitted is not None
    assert 0.5 < fitted.slope < 20.0


@pytest.mark.parametrize(
    "case", ["a fall", "one logit", "few positives", "few negatives", "unknown labels", "method none"]
)
def test_what_cannot_be_fitted_is_left_as_it_is(case):
    label, logit = generated()
    rows, method = np.arange(len(label)), "platt"
    match case:
        case "a fall":
            logit = -logit
        case "one logit":
            logit = np.zeros_like(logit)
        case "few positives":
            rows = np.concatenate((np.flatnonzero(label == 0), np.flatnonzero(label)[: MIN_PER_CLASS - 1]))
        case "few negatives":
            rows = np.concatenate((np.flatnonzero(label), np.flatnonzero(label == 0)[: MIN_PER_CLASS - 1]))
        case "unknown labels":
            label = np.full_like(label, np.nan)
        case _:
            method = "none"
    found = fit_calibration(label[rows, None], logit[rows, None].astype(np.float32), ["click"], method)
    assert found.by_target == {}


@settings(deadline=None)
@given(fitted=fitted_maps)
def test_the_file_gives_back_what_was_written_to_the_bit(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("calibration") / "calibration.json"
    path.write_text(one(fitted).to_json())
    assert read_calibration(path, ["click", "buy"]) == one(fitted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "calibration.json: the file: Invalid JSON"),
        ("[]", "calibration.json: the file: Input should be an object"),
        ({"click": {"kind": "beta"}}, "click: .*'platt', 'isotonic'"),
        ({"click": {"kind": "platt", "slope": 0, "intercept": 0}}, r"click\.platt\.slope: .*greater than 0"),
        ({"click": {"kind": "platt", "slope": 1, "intercept": 0, "x": 1}}, r"click\.platt\.x: Extra inputs"),
        ({"click": {"kind": "isotonic", "logit": [1, 0], "probability_at": [0, 1]}}, "logit: must ascend"),
        ({"click": {"kind": "isotonic", "logit": [0, 1], "probability_at": [1, 0]}}, "probability_at: must not fall"),
        ({"click": {"kind": "isotonic", "logit": [0], "probability_at": [0, 1]}}, "1 logits and 2 probabilities"),
        ({"click": {"kind": "isotonic", "logit": [0], "probability_at": [2]}}, "less than or equal to 1"),
        ({"sale": {"kind": "platt", "slope": 1, "intercept": 0}}, "sale: no such target, .* has click, buy"),
    ],
)
def test_a_broken_file_is_refused_with_the_key_and_what_is_allowed(tmp_path, content, message):
    path = tmp_path / "calibration.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(BundleError, match=message):
        read_calibration(path, ["click", "buy"])


def test_the_calibration_error_by_hand():
    # Bins of two rows: frequencies 0, 1/2, 1 beside mean probabilities .15, .5, .8; the two rows of .5 are one bin.
    label = np.array([0, 0, 1, 0, 1, 1])
    probability = np.array([0.1, 0.2, 0.5, 0.5, 0.7, 0.9])
    assert calibration_error(label, probability, num_bins=3) == pytest.approx((2 * 0.15 + 0 + 2 * 0.2) / 6)
    bins = reliability(label, probability, num_bins=3)
    assert [(each.positives, each.rows) for each in bins] == [(0, 2), (1, 2), (2, 2)]
    assert [each.mean_probability for each in bins] == pytest.approx([0.15, 0.5, 0.8])
    assert calibration_error(np.array([1, 0, 1, 0]), np.full(4, 0.5), num_bins=4) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="probabilities within"):
        calibration_error(np.array([1]), np.array([1.5]))


def test_a_conditional_target_is_never_more_probable_than_its_condition():
    """Each is fitted on its own: what lifts a conversion over what it is conditional on is cut."""
    calibration = Calibration(
        by_target={"buy": Platt(slope=1.0, intercept=3.0), "view": Platt(slope=1.0, intercept=-2.0)}
    )
    logits = np.array([[0.0, 0.5, -1.0], [-4.0, 3.0, -9.0]])
    free = calibration.probabilities(logits, ["click", "view", "buy"])
    found = calibration.probabilities(logits, ["click", "view", "buy"], [1, None, 0])
    assert (free[0, 2] > free[0, 0], free[0, 0] > free[0, 1]) == (True, True)
    np.testing.assert_array_equal(found[:, 1], free[:, 1])
    np.testing.assert_array_equal(found[:, 0], np.minimum(free[:, 0], free[:, 1]))
    np.testing.assert_array_equal(found[:, 2], free.min(axis=1))


@pytest.mark.parametrize("given", [[1, 2, None], [2, None, 1], [None, 0, 1]])
def test_a_condition_of_a_condition_bounds_a_target_too(given):
    """Whatever the order of the columns: pay given buy, buy given click, and clicks are rare."""
    logit = np.array([[-2.0 if condition is None else 2.0 if given[condition] is None else 3.0 for condition in given]])
    found = Calibration().probabilities(logit, ["a", "b", "c"], given)[0]
    assert found == pytest.approx([1 / (1 + np.exp(2.0))] * 3)


def test_probabilities_near_one_keep_the_order_of_their_logits():
    logit = np.linspace(15, 30, 2000).astype(np.float32)
    for calibration in (Calibration(), Calibration(by_target={"click": Platt(slope=0.9, intercept=-0.3)})):
        found = calibration.probabilities(logit[:, None], ["click"])[:, 0]
        assert len(np.unique(found)) == len(logit)
        assert (np.diff(found) > 0).all()
