from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from model_stage.evaluation.metrics import auc
from model_stage.training.pipeline import Recipe
from scripts.baselines import boosting
from scripts.baselines.data import load_dataset
from scripts.baselines.features import fourteen_numbers
from scripts.baselines.run import split_rows
from scripts.baselines.times import numbers_of_time
from scripts.generate.dataset import Settings, generate
from scripts.generate.mechanisms import WORLDS, Marks, Mechanisms, draw_marks
from scripts.generate.truth import Impressions
from scripts.generate.users import STREAMS, Behaviors, draw_behaviors, draw_interests
from scripts.generate.world import World, build_world
from scripts.pipeline import CONFIGS
from search_stage import SearchConfig
from store.errors import InputError
from store.types import DAY_MS

NAMED = [name for name in WORLDS if name != "taxonomy"]
Built = tuple[World, Behaviors, Impressions, Marks]
Generated = tuple[Path, dict[str, float]]


@pytest.fixture(scope="module")
def built() -> Built:
    draw = np.random.default_rng(0)
    world, counts = build_world(draw), np.array([2_000, 3, 400])
    behaviors = draw_behaviors(world, draw_interests(world, counts, draw), counts, draw)
    at = draw.integers(0, len(behaviors.user), 300)
    shown = Impressions(
        user=behaviors.user[at],
        ad=draw.integers(0, len(world.items["ad"].leaf), 300),
        timestamp_ms=behaviors.timestamp_ms[at],  # at a behavior's very time: it is not seen
    )
    return world, behaviors, shown, draw_marks(world, behaviors.timestamp_ms, draw)


def one_by_one(name: str, target: str, built: Built) -> list[float]:
    """The formulas of the module, in loops."""
    world, behaviors, shown, marks = built
    domains = [domain for domain, *_ in STREAMS]
    ads = world.items["ad"]

    def kind(row: int, of: dict | None) -> int:
        domain = domains[behaviors.stream[row]]
        return (world.items[domain].leaf if of is None else of[domain])[behaviors.item[row]]

    def total(terms: list[tuple[float, int]]) -> float:
        square = sum(weight**2 for weight, _ in terms)
        return sum(weight * sign for weight, sign in terms) / np.sqrt(square) if terms else 0.0

    results = []
    for user, ad, now in zip(shown.user, shown.ad, shown.timestamp_ms, strict=True):
        before = [row for row in np.flatnonzero(behaviors.user == user) if behaviors.timestamp_ms[row] < now]
        leaf = ads.leaf[ad]

        def near(of: int, rows: list[int], newest: int) -> list[int]:
            return [row for row in rows if kind(row, None) == of][-newest:]

        def tones(rows: list[int]) -> list[tuple[float, int]]:
            return [(1.0, int(marks.tone[row])) for row in rows]

        if name == "needle" and target == "click":
            results.append(total(tones(near(leaf, before[:-50], 20))))
        elif name == "needle":
            alike = [row for row in before[:-50] if kind(row, marks.style) == marks.style["ad"][ad]][-20:]
            results.append(total(tones(alike)))
        elif name in ("objectives", "late"):
            rows = near(leaf, before, 40 if name == "objectives" else 20)
            ages = [(now - behaviors.timestamp_ms[row]) / DAY_MS for row in rows]
            if target == "click" or name == "late":
                results.append(total([(np.exp(-age / 20), marks.tone[r]) for age, r in zip(ages, rows, strict=True)]))
            else:
                weights = [np.tanh((age - 60) / 20) for age in ages]
                results.append(total([(w, marks.pace[r]) for w, r in zip(weights, rows, strict=True)]))
        elif name == "pairs":
            partner = near(marks.partner[leaf], before, 20)
            results.append(total(tones(near(leaf, before, 20))) * total(tones(partner)))
        else:
            tone = [int(marks.tone[row]) for row in near(leaf, before, 20)]
            results.append(total([(1.0, a * b) for a, b in pairwise(tone)]))
    return results


@pytest.mark.parametrize("target", ["click", "purchase"])
@pytest.mark.parametrize("name", NAMED)
def test_a_mechanism_is_its_formula(name: str, target: str, built: Built) -> None:
    found = Mechanisms(*built).of(name)[target]

    expected = np.array(one_by_one(name, target, built))
    assert (expected != 0).mean() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_only_what_had_arrived_is_known_in_late(built: Built) -> None:
    world, behaviors, _, marks = built
    leaf = world.items["ad"].leaf
    now = int(np.median(behaviors.timestamp_ms))
    # User 0 is asked about every ad.
    shown = Impressions(
        user=np.zeros(len(leaf), np.int64), ad=np.arange(len(leaf)), timestamp_ms=np.full(len(leaf), now)
    )
    # What arrives after that time may as well have the other sign.
    other = replace(marks, tone=np.where(marks.arrived_ms < now, marks.tone, -marks.tone))
    ours, theirs = Mechanisms(world, behaviors, shown, marks), Mechanisms(world, behaviors, shown, other)

    np.testing.assert_array_equal(ours.known("late")["click"], theirs.known("late")["click"])
    assert (ours.of("late")["click"] != theirs.of("late")["click"]).mean() > 0.1
    at_once = replace(marks, arrived_ms=behaviors.timestamp_ms)
    np.testing.assert_array_equal(
        Mechanisms(world, behaviors, shown, at_once).known("late")["click"], ours.of("late")["click"]
    )
    assert ours.known("needle") is None


def test_the_same_behaviors_in_another_order_change_order(built: Built) -> None:
    world, behaviors, _, marks = built
    leaf = world.items["ad"].leaf
    now = np.full(len(leaf), behaviors.timestamp_ms.max() + 1)
    shown = Impressions(user=np.zeros(len(leaf), np.int64), ad=np.arange(len(leaf)), timestamp_ms=now)
    alternating = np.resize([1, -1], len(behaviors.user))
    # Of each leaf as many of either tone as before, but all of one first.
    domains = [domain for domain, *_ in STREAMS]
    rows = zip(behaviors.stream, behaviors.item, strict=True)
    place = np.array([world.items[domains[stream]].leaf[item] for stream, item in rows])
    place[behaviors.user != 0] = -1
    sorted_tones = alternating.copy()
    for node in np.unique(place):
        sorted_tones[place == node] = np.sort(alternating[place == node])

    one, other = (
        Mechanisms(world, behaviors, shown, replace(marks, tone=tone)).of("order")["click"]
        for tone in (alternating, sorted_tones)
    )
    often = np.bincount(place + 1)[leaf + 1] > 9
    assert often.sum() > 20
    assert (one[often] != other[often]).mean() > 0.7


@pytest.fixture(scope="module", params=NAMED)
def generated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    out = tmp_path_factory.mktemp(request.param) / "out"
    return out, generate(Settings(users=60, mean_behaviors=150, requests=1500, world=request.param), out)


def test_trees_on_counts_and_times_do_not_close_half_of_the_gap(generated: Generated) -> None:
    out, report = generated
    data = load_dataset(out)
    numbers = np.hstack([fourteen_numbers(data), numbers_of_time(data)])
    for target in ("click", "purchase"):
        ceiling = report[f"{target}_auc_ceiling"]
        without = next(report[name] for name in report if name.startswith(f"{target}_auc_ceiling_without"))
        assert ceiling - without > 0.01
        train, test = split_rows(data, target)
        label = data.labels[target] == 1
        scores = boosting.fit_and_score(numbers[train], label[train], numbers[test], seed=0)
        assert auc(label[test], scores) < (ceiling + without) / 2


def test_the_marks_stand_in_the_tables(generated: Generated) -> None:
    behaviors, items = (pq.read_table(generated[0] / f"{name}.parquet") for name in ("behaviors", "items"))

    for column, words in (("tone", {"cold", "warm"}), ("pace", {"calm", "brisk"})):
        values = behaviors[column].to_numpy(zero_copy_only=False)
        assert set(values) == words
        assert (values == min(words)).mean() == pytest.approx(0.5, abs=0.02)
    assert len(items["style"].unique()) == 24


def test_the_configuration_of_the_worlds_reads_what_they_write(generated: Generated) -> None:
    recipe = Recipe.load(CONFIGS / "worlds")
    SearchConfig.load(CONFIGS / "worlds")

    assert recipe.targets.names == ("click", "purchase")
    for field in recipe.schema.fields:
        files = {"behavior": ["behaviors"], "user": ["users"], "candidate": ["items", "impressions"]}[field.part]
        assert any(field.name in pq.read_schema(generated[0] / f"{file}.parquet").names for file in files), field.name


def test_another_world_is_refused() -> None:
    with pytest.raises(InputError, match="'flat' is none of taxonomy, needle"):
        Settings(world="flat")


def test_the_needles_are_older_than_the_newest_and_vectors_hold_the_style(tmp_path: Path) -> None:
    generate(Settings(users=12, mean_behaviors=150, requests=80, world="needle"), tmp_path / "out")
    needles, truth, behaviors, items, vectors = (
        pq.read_table(tmp_path / "out" / f"{name}.parquet")
        for name in ("needle", "truth", "behaviors", "items", "item_vectors")
    )
    assert needles.select(truth.column_names[:3]) == truth.select(truth.column_names[:3])[-needles.num_rows :]
    times = {
        user: np.sort(behaviors.filter(pc.field("user") == user)["timestamp_ms"])
        for user in set(needles["user"].to_pylist())
    }
    found = 0
    for row in needles.to_pylist():
        before = times[row["user"]][times[row["user"]] < row["timestamp_ms"]]
        for target in ("click", "purchase"):
            found += len(row[target])
            assert len(row[target]) <= 20
            assert set(row[target]) <= set(before[:-50].tolist())
    assert found > 100
    style = dict(zip(items["item"].to_pylist(), items["style"].to_pylist(), strict=True))
    directions = {(style[row["item"]], tuple(row["vector"])) for row in vectors.to_pylist()}
    assert len(directions) == len(set(style.values())) == 24
