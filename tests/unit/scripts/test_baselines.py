from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts.baselines import boosting, perceptron, similarity, times
from scripts.baselines.data import load_dataset
from scripts.baselines.features import NAMES, fourteen_numbers
from scripts.baselines.run import FITTED, popularity, run_baselines
from scripts.baselines.similarity import cosines
from scripts.baselines.times import numbers_of_time
from scripts.generate.dataset import Settings, generate
from store.errors import InputError
from store.terminal import write_json

DAY = 86_400_000
NOW = 100 * DAY

BEHAVIORS = [
    # user, item, category, domain, action, day
    (1, "10", None, "content", "purchase", 90),
    (1, "10", None, "content", "purchase", 95),
    (1, "11", None, "content", "purchase", 80),
    (1, "12", None, "content", "purchase", 70),
    (1, "unknown", "c own", "content", "purchase", 60),
    (1, "coupon", None, "ad", "receive", 50),
    (1, "coupon", None, "ad", "redeem", 99),
    (2, "coupon", None, "ad", "redeem", 98),
    (2, "10", None, "content", "purchase", 97),
]
FUTURE = [
    (1, "10", None, "content", "purchase", 100),
    (1, "coupon", None, "ad", "redeem", 100),
    (2, "11", None, "content", "purchase", 101),
    (1, "unknown", "c own", "content", "purchase", 102),
]


def write_dataset(folder: Path, behaviors: list[tuple]) -> Path:
    """Top > mid > leaf and top > mid > twin; item 10 and the coupon at leaf, 11 at twin, 12 at top."""
    folder.mkdir()
    names = ("user", "item", "category", "domain", "action", "day")
    columns = dict(zip(names, (list(column) for column in zip(*behaviors, strict=True)), strict=True))
    columns["timestamp_ms"] = [day * DAY for day in columns.pop("day")]
    tables = {
        "behaviors": columns,
        "taxonomy": {
            "category": ["top", "mid", "leaf", "twin", "c own", "c top"],
            "parent": [None, "top", "mid", "mid", "c top", None],
            "domain": [None, None, None, None, "content", "content"],
        },
        "bridges": {"domain": ["content"], "category": ["c top"], "node": ["mid"]},
        "items": {
            "item": ["10", "11", "12", "coupon"],
            "category": ["leaf", "twin", "top", "leaf"],
            "covers": [[], [], [], ["10", "11"]],
        },
        "impressions": {
            "user": [1, 2, 3],
            "item": ["coupon", "coupon", "never seen"],
            "timestamp_ms": [NOW, NOW, NOW],
            "label_redeem": [1, 0, None],
        },
    }
    for name, table in tables.items():
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    write_json(folder / "splits.json", {"train_from_ms": 1, "validation_from_ms": NOW - 1, "test_from_ms": NOW})
    return folder


def test_fourteen_numbers_by_hand(tmp_path: Path) -> None:
    numbers = fourteen_numbers(load_dataset(write_dataset(tmp_path / "data", BEHAVIORS)))

    # The data begin on day 50: totals are per 100 days over 50 days and 30 of damping.
    rate = 100.0 / (100 - 50 + 30)
    first = dict(zip(NAMES, numbers[0].tolist(), strict=True))
    assert first == {
        "level_0_count": 3.0,  # 10 twice, 11 once
        "level_0_age_days": 5.0,
        "level_1_count": 2.0,  # leaf: item 10
        "level_1_age_days": 5.0,
        "level_2_count": 4.0,  # mid: 10, 11 and the unknown item, whose category is bridged to mid
        "level_2_age_days": 5.0,
        "level_3_count": 5.0,
        "level_3_age_days": 5.0,
        "interests": 5.0 * rate,
        "interests_age_days": 5.0,
        "responses": 1.0 * rate,  # receiving a coupon is no answer to it
        "item_popularity": 2.0 * rate,
        "category_popularity": 3.0 * rate,
        "num_covers": 2.0,
    }
    third = dict(zip(NAMES, numbers[2].tolist(), strict=True))
    assert [third[name] for name in NAMES if "age" not in name] == [0.0] * 9
    assert all(np.isnan(third[name]) for name in NAMES if "age" in name)


def test_numbers_of_time_by_hand(tmp_path: Path) -> None:
    numbers = numbers_of_time(load_dataset(write_dataset(tmp_path / "data", BEHAVIORS)))

    first = dict(zip(times.NAMES, numbers[0].tolist(), strict=True))

    def of(group: str, *, ages: list[int], days: int, first_age: int, gap: float, due: float) -> None:
        got = {what: first[f"{group}_{what}"] for what in times.WHAT}
        decayed = {f"decayed_{half}": sum(2 ** (-age / half) for age in ages) for half in (7, 30, 90)}
        expected = {**decayed, "days": days, "first_age_days": first_age, "gap_days": gap, "due": due}
        assert got == pytest.approx(expected), group

    of("level_0", ages=[10, 5, 20], days=3, first_age=20, gap=7.5, due=5 / 7.5)  # 10 twice and 11
    of("level_1", ages=[10, 5], days=2, first_age=10, gap=5, due=1)
    of("level_2", ages=[10, 5, 20, 40], days=4, first_age=40, gap=35 / 3, due=5 / (35 / 3))
    of("level_3", ages=[10, 5, 20, 40, 30], days=5, first_age=40, gap=35 / 4, due=5 / (35 / 4))
    of("favorite", ages=[10, 5], days=2, first_age=10, gap=5, due=1)  # item 10
    of("covered", ages=[10, 5, 20, 3], days=4, first_age=20, gap=17 / 3, due=3 / (17 / 3))  # user 2's as well
    of("category", ages=[10, 5, 3], days=3, first_age=10, gap=3.5, due=3 / 3.5)
    third = dict(zip(times.NAMES, numbers[2].tolist(), strict=True))
    counts = {name for name in third if "decayed" in name or name.removesuffix("_days") in times.GROUPS}
    assert {name for name, value in third.items() if value == 0} == counts
    assert {name for name, value in third.items() if np.isnan(value)} == third.keys() - counts


def test_the_favorite_is_the_newest_of_items_had_equally_often(tmp_path: Path) -> None:
    numbers = numbers_of_time(
        load_dataset(write_dataset(tmp_path / "data", [*BEHAVIORS, (1, "11", None, "content", "purchase", 99)]))
    )

    assert numbers[0, times.NAMES.index("favorite_first_age_days")] == 20  # of 11, not of 10


TOGETHER = [
    # Users 3 to 5 had 10 and 12, users 6 to 8 two other items; user 1 had 12 since, user 2 one of the others.
    *((user, item, None, "content", "purchase", 55) for user in (3, 4, 5) for item in ("10", "12")),
    *((user, item, None, "content", "purchase", 57) for user in (6, 7, 8) for item in ("unknown", "other")),
    (1, "12", None, "content", "purchase", 95),
    (2, "other", None, "content", "purchase", 95),
]


def test_cosines_are_near_one_for_what_the_same_users_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "DIM", 2)

    before = cosines(load_dataset(write_dataset(tmp_path / "data", TOGETHER)))
    planted = cosines(
        load_dataset(
            write_dataset(tmp_path / "planted", [*TOGETHER, *FUTURE, (9, "10", None, "content", "purchase", 100)])
        )
    )

    assert before.shape == (3, len(similarity.NAMES))
    assert (before[0] > 0.99).all()  # the coupon covers 10
    assert (abs(before[1:]) < 0.01).all()
    np.testing.assert_array_equal(planted, before)


def test_a_profile_forgets_what_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "DIM", 2)
    turned = [*TOGETHER, (1, "other", None, "content", "purchase", 55)]

    cosine, cosine_30, cosine_90 = cosines(load_dataset(write_dataset(tmp_path / "data", turned)))[0]

    assert 0.1 < cosine < cosine_90 < cosine_30 < 0.99


@pytest.mark.parametrize("numbers_of", [fourteen_numbers, numbers_of_time])
def test_nothing_at_or_after_the_impression_moves_a_number(tmp_path: Path, numbers_of: Callable) -> None:
    before = numbers_of(load_dataset(write_dataset(tmp_path / "data", BEHAVIORS)))
    planted = numbers_of(load_dataset(write_dataset(tmp_path / "planted", BEHAVIORS + FUTURE)))

    np.testing.assert_array_equal(planted, before)


def test_popularity_orders_by_ad_and_then_by_category() -> None:
    numbers = np.zeros((4, len(NAMES)))
    numbers[:, NAMES.index("item_popularity")] = [1, 0, 0, 1]
    numbers[:, NAMES.index("category_popularity")] = [0, 9, 5, 1]

    assert np.argsort(-popularity(numbers)).tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize("baseline", [boosting, perceptron])
def test_learns_a_signal_and_is_deterministic(baseline: object) -> None:
    draw = np.random.default_rng(0)
    rows = draw.poisson(3.0, (4000, len(NAMES))).astype(np.float64)
    label = draw.random(4000) < np.where(rows[:, 4] > 3, 0.9, 0.05)
    rows[:, 1] = np.where(rows[:, 0] > 0, rows[:, 1], np.nan)
    state = np.random.get_state()[1].copy()

    scores = [baseline.fit_and_score(rows[:3000], label[:3000], rows[3000:], seed=3) for _ in range(2)]

    np.testing.assert_array_equal(scores[0], scores[1])
    high = rows[3000:, 4] > 3
    assert 0.75 < scores[0][high].mean() < 1.0
    assert 0.0 < scores[0][~high].mean() < 0.15
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_all_baselines_on_a_generated_dataset(tmp_path: Path) -> None:
    report = generate(Settings(users=60, mean_behaviors=150, requests=1500), tmp_path / "data")

    results = run_baselines(tmp_path / "data", ["click"], [0])

    assert [result.baseline for result in results] == ["popularity", *FITTED]
    by_name = {result.baseline: result for result in results}
    assert by_name["popularity"].logloss is None
    for name in FITTED:
        # Counts over the whole history see most of the signal, not its decay.
        assert 0.65 < by_name[name].auc < report["click_auc_ceiling"] + 0.02
    time = pq.read_table(tmp_path / "data" / "impressions.parquet")["timestamp_ms"].to_numpy()
    assert (time[by_name["boosting"].rows] >= load_dataset(tmp_path / "data").splits.test_from_ms).all()


def test_an_unknown_target_is_named(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", BEHAVIORS)
    with pytest.raises(InputError, match="label_nothing"):
        run_baselines(data, ["nothing"], [0])


def test_trees_leave_out_a_column_that_training_has_no_number_of() -> None:
    draw = np.random.default_rng(0)
    train, test = draw.random((200, 2)), draw.random((50, 2))
    label = train[:, 0] > 0.5
    empty, full = np.full((200, 1), np.nan), np.ones((50, 1))
    with_empty = boosting.fit_and_score(np.hstack([train, empty]), label, np.hstack([test, full]), seed=0)
    np.testing.assert_array_equal(with_empty, boosting.fit_and_score(train, label, test, seed=0))
