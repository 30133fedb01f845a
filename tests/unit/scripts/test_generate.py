import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model_stage.evaluation.metrics import auc
from scripts.generate.dataset import Settings, generate
from scripts.generate.truth import Impressions, Matcher
from scripts.generate.users import START_MS, STREAMS, Behaviors
from scripts.generate.world import World, build_world, grow, resolve
from store.errors import InputError
from store.types import DAY_MS

SMALL = Settings(users=60, mean_behaviors=150, requests=1500)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated") / "out"
    generate(SMALL, out)
    return out


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(small: Path, tmp_path: Path) -> None:
    generate(SMALL, tmp_path / "again")
    generate(Settings(users=60, mean_behaviors=150, requests=1500, seed=1), tmp_path / "other")

    names = sorted(path.name for path in small.iterdir())
    same = [(small / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names]
    assert all(same)
    assert (small / "behaviors.parquet").read_bytes() != (tmp_path / "other" / "behaviors.parquet").read_bytes()


def test_users_have_from_ten_to_twenty_thousand_behaviors(small: Path) -> None:
    sizes = pq.read_table(small / "behaviors.parquet").group_by("user").aggregate([([], "count_all")])["count_all"]

    assert (min(sizes.to_pylist()), max(sizes.to_pylist())) == (10, 20_000)


def test_truth_stands_row_by_row_beside_the_impressions(small: Path) -> None:
    impressions, truth = (pq.read_table(small / f"{name}.parquet") for name in ("impressions", "truth"))

    for name in ("user", "item", "timestamp_ms"):
        assert impressions[name].equals(truth[name])
    for target in ("click", "purchase"):
        label, p = impressions[f"label_{target}"].to_numpy(), truth[f"p_{target}"].to_numpy()
        # Labels are drawn from p: their number is within four standard deviations of its expectation.
        assert abs(label.sum() - p.sum()) < 4.0 * np.sqrt((p * (1.0 - p)).sum())
        assert auc(label, p) > 0.75


def test_the_signal_sits_deep_in_the_history(small: Path) -> None:
    report = json.loads((small / "truth.json").read_text())

    for target in ("click", "purchase"):
        assert report[f"{target}_auc_ceiling"] > report[f"{target}_auc_ceiling_last_50"] + 0.03


def test_no_signal_is_noise_at_the_same_rates(tmp_path: Path) -> None:
    generate(Settings(users=60, mean_behaviors=150, requests=1500, signal=0.0), tmp_path / "noise")
    truth = pq.read_table(tmp_path / "noise" / "truth.parquet")
    impressions = pq.read_table(tmp_path / "noise" / "impressions.parquet")

    for target, rate in (("click", 0.10), ("purchase", 0.05)):
        assert np.ptp(truth[f"p_{target}"].to_numpy()) == 0.0
        assert impressions[f"label_{target}"].to_numpy().mean() == pytest.approx(rate, abs=0.01)


def test_splits_hold_rows_each(small: Path) -> None:
    splits = json.loads((small / "splits.json").read_text())
    time = pq.read_table(small / "impressions.parquet")["timestamp_ms"].to_numpy()

    bounds = [splits["train_from_ms"], splits["validation_from_ms"], splits["test_from_ms"]]
    shares = np.bincount(np.searchsorted(bounds, time, side="right"), minlength=4) / len(time)
    assert shares[0] == 0.0
    assert shares[1:] == pytest.approx([0.70, 0.15, 0.15], abs=0.03)


def test_impressions_of_a_request_are_different_ads(small: Path) -> None:
    table = pq.read_table(small / "impressions.parquet")
    requests = table.group_by(["user", "timestamp_ms"]).aggregate([([], "count_all")])

    assert table.group_by(["user", "timestamp_ms", "item"]).aggregate([]).num_rows == table.num_rows
    assert max(requests["count_all"].to_pylist()) <= 20


def test_resolve_takes_the_nearest_bridged_ancestor() -> None:
    tree = grow("own", (2, 2))
    assert tree.names == ("own 0", "own 0.0", "own 0.1", "own 1", "own 1.0", "own 1.1")

    bridge = np.array([40, -1, 41, -1, -1, 42])
    assert resolve(tree, bridge).tolist() == [40, 40, 41, -1, -1, 42]


def one_user(world: World, rows: list[tuple[str, str, int, float]]) -> Behaviors:
    """Gives behaviors (domain, action, item, day) of a single user."""
    kinds = [(domain, action) for domain, action, *_ in STREAMS]
    rows = sorted(rows, key=lambda row: row[3])
    return Behaviors(
        user=np.zeros(len(rows), np.int64),
        stream=np.array([kinds.index(row[:2]) for row in rows], np.int64),
        item=np.array([row[2] for row in rows], np.int64),
        timestamp_ms=np.array([START_MS + int(row[3] * DAY_MS) for row in rows], np.int64),
        offsets=np.array([0, len(rows)]),
    )


def test_match_weighs_nearness_worth_and_age_and_nothing_from_the_future() -> None:
    world = build_world(np.random.default_rng(0))
    ads, articles = world.items["ad"], world.items["content"]
    ad = int(np.flatnonzero(np.diff(world.covers_offsets) > 0)[0])
    covered = world.covers[world.covers_offsets[ad]]
    sibling = int(np.flatnonzero((ads.group == ads.group[ad]) & (ads.leaf != ads.leaf[ad]))[0])
    same_leaf = int(np.flatnonzero((ads.leaf == ads.leaf[ad]) & (np.arange(len(ads.leaf)) != ad))[0])
    far = int(np.flatnonzero(articles.leaf == -1)[0])
    past = [
        ("content", "view", int(covered), 100.0),  # exact: 4
        ("ad", "click", same_leaf, 100.0),  # same leaf, worth 2: 2
        ("ad", "view", sibling, 70.0),  # same group, 30 days older: 0.3 / e
    ]
    if articles.group[far] != ads.group[ad]:
        past.append(("content", "view", far, 100.0))
    now = START_MS + 100 * DAY_MS + 1
    shown = Impressions(user=np.zeros(1, np.int64), ad=np.array([ad]), timestamp_ms=np.array([now]))

    found = Matcher(world, one_user(world, past), shown).match(memory_days=30.0)
    future = [("content", "buy", int(covered), 100.0 + 1.0 / DAY_MS), ("ad", "click", ad, 300.0)]
    planted = Matcher(world, one_user(world, past + future), shown).match(memory_days=30.0)

    assert found[0] == pytest.approx(4.0 + 2.0 + 0.3 / np.e, rel=1e-6)
    assert planted.tolist() == found.tolist()


@pytest.mark.parametrize("wrong", [{"users": 1}, {"mean_behaviors": 9}, {"requests": 0}, {"signal": -1.0}])
def test_settings_refuse_what_cannot_be_generated(wrong: dict) -> None:
    with pytest.raises(InputError, match="expected users"):
        Settings(**wrong)
