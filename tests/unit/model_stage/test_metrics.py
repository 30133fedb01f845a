import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from model_stage.evaluation.metrics import auc, bootstrap, gauc, logloss, paired_bootstrap, resampled

# Few distinct scores and groups, so that ties and one-class groups are common.
rows = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=60)


def columns(given_rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    label, score, group = np.array(given_rows).T
    return label, score / 7.0, group


@given(rows)
def test_auc_equals_scikit_learn(given_rows: list[tuple[int, int, int]]) -> None:
    label, score, _ = columns(given_rows)

    if len(set(label)) < 2:
        assert np.isnan(auc(label, score))
    else:
        assert auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


@given(rows)
def test_gauc_is_the_mean_of_the_groups_weighted_by_rows(given_rows: list[tuple[int, int, int]]) -> None:
    label, score, group = columns(given_rows)

    parts = [(label[group == g], score[group == g]) for g in set(group)]
    both = [(roc_auc_score(y, s), len(y)) for y, s in parts if 0 < y.sum() < len(y)]

    if not both:
        assert np.isnan(gauc(label, score, group))
    else:
        expected = sum(area * size for area, size in both) / sum(size for _, size in both)
        assert gauc(label, score, group) == pytest.approx(expected, abs=1e-12)


def test_gauc_by_hand() -> None:
    # User 7: one of two pairs right; user 8: no positive, does not count; user 9: the one pair is right.
    label = np.array([1, 0, 0, 0, 0, 1, 0])
    score = np.array([0.5, 0.9, 0.1, 0.3, 0.2, 0.8, 0.1])
    user = np.array([7, 7, 7, 8, 8, 9, 9])

    assert gauc(label, score, user) == pytest.approx((3 * 0.5 + 2 * 1.0) / 5)


@given(rows)
def test_logloss_equals_scikit_learn(given_rows: list[tuple[int, int, int]]) -> None:
    label, score, _ = columns(given_rows)
    probability = 0.5 + score / 2.0

    assert logloss(label, probability) == pytest.approx(log_loss(label, probability, labels=[0, 1]), abs=1e-12)


def test_logloss_of_a_certain_and_wrong_probability_is_finite() -> None:
    assert logloss(np.array([1]), np.array([0.0])) == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [
        ([0, 1], [0.1], "one length"),
        ([0, 2], [0.1, 0.2], "0 or 1"),
        ([0.0, np.nan], [0.1, 0.2], "0 or 1"),
        ([0, 1], [0.1, np.nan], "finite"),
    ],
)
def test_misuse_is_refused(label: list[float], score: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auc(np.array(label), np.array(score))


def sample(strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(200), 10)
    truth = draw.normal(size=len(user))
    label = (draw.random(len(user)) < 1 / (1 + np.exp(1.0 - truth))).astype(int)
    return label, user, strength * truth + draw.normal(size=len(user))


@pytest.mark.parametrize("metric", ["auc", "gauc", "logloss"])
def test_interval_of_a_metric_is_that_of_its_measure_on_the_drawn_rows(metric: str) -> None:
    label, user, score = sample(1.0)
    probability = 1.0 / (1.0 + np.exp(-score))
    found = bootstrap(label, probability, user, metric=metric, seed=7, num_resamples=30)

    measure = {"auc": lambda y, s, u: auc(y, s), "gauc": gauc, "logloss": lambda y, s, u: logloss(y, s)}[metric]
    draw, values = np.random.default_rng(7), []
    for _ in range(30):
        users = draw.integers(0, 200, 200)
        rows = np.concatenate([np.flatnonzero(user == each) for each in users])
        copy = np.repeat(np.arange(200), 10)  # a user drawn twice is two users to gauc, of equal areas
        values.append(measure(label[rows], probability[rows], copy))
    assert found.value == pytest.approx(measure(label, probability, user))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


@pytest.mark.parametrize("metric", ["auc", "gauc"])
def test_bootstrap_sees_a_real_difference_and_none_where_there_is_none(metric: str) -> None:
    label, user, good = sample(2.0)
    _, _, poor = sample(0.3)
    measure = auc if metric == "auc" else lambda y, s: gauc(y, s, user)

    better = paired_bootstrap(label, good, poor, user, metric=metric, seed=1, num_resamples=200)
    same = paired_bootstrap(label, good, good * 3.0 + 1.0, user, metric=metric, seed=1, num_resamples=200)

    assert better.difference == pytest.approx(measure(label, good) - measure(label, poor))
    assert 0.0 < better.low < better.difference < better.high
    assert better.low > 0.0
    assert (same.difference, same.low, same.high) == (0.0, 0.0, 0.0)
    assert same.low <= 0.0 <= same.high


def test_bootstrap_covers_the_spread_of_fresh_samples() -> None:
    label, user, first = sample(1.0)
    _, _, second = sample(1.0)
    second = second + np.random.default_rng(5).normal(size=len(second))
    interval = paired_bootstrap(label, first, second, user, metric="auc", seed=1, num_resamples=300)

    fresh = []
    for seed in range(1, 41):
        again, _, one = sample(1.0, seed)
        two = one + np.random.default_rng(100 + seed).normal(size=len(one))
        fresh.append(auc(again, one) - auc(again, two))
    # 95 % of fresh differences spread 3.9 deviations wide; a factor of two leaves room for 40 samples.
    assert 0.5 < (interval.high - interval.low) / (3.92 * np.std(fresh)) < 2.0


def test_bootstrap_is_deterministic_and_refuses_one_class() -> None:
    label, user, good = sample(2.0)
    _, _, poor = sample(0.3)
    runs = [paired_bootstrap(label, good, poor, user, metric="auc", seed=3, num_resamples=20) for _ in range(2)]

    assert runs[0] == runs[1]
    with pytest.raises(ValueError, match="both classes"):
        paired_bootstrap(np.zeros_like(label), good, poor, user, metric="auc", seed=3, num_resamples=20)


@pytest.mark.parametrize("metric", ["auc", "gauc", "logloss"])
def test_differences_of_resamples_give_the_paired_interval(metric: str) -> None:
    draw = np.random.default_rng(3)
    user, label = draw.integers(0, 30, 400), draw.integers(0, 2, 400)
    first, second = draw.random(400), draw.random(400)
    paired = paired_bootstrap(label, first, second, user, metric=metric, seed=7, num_resamples=50)

    one, other = (resampled(label, each, user, metric=metric, seed=7, num_resamples=50) for each in (first, second))
    low, high = np.nanquantile(one - other, [0.025, 0.975])
    assert (low, high) == pytest.approx((paired.low, paired.high))


def test_resamples_of_nothing_are_nothing() -> None:
    nothing = np.empty(0)
    found = resampled(nothing, nothing, nothing.astype(int), metric="auc", seed=0, num_resamples=3)
    assert np.isnan(found).all()
