"""The recall report: it sees a signal where there is one and none where there is none, and counts what search finds."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from search_stage import IndexGeneration, SearchConfig, Searcher, build_index
from search_stage.cli import main
from search_stage.config import HardPolicy
from search_stage.study import approximate
from search_stage.study.approximate import ApproximateMeasure, ApproximateRecall
from search_stage.study.association import Association
from search_stage.study.coverage import ClimbMeasure, OverlapMeasure
from search_stage.study.errors import SampleError
from search_stage.study.groups import CategoryGroups
from search_stage.study.lift import LiftMeasure
from search_stage.study.rankings import Lists, list_everything, ranked_histories
from search_stage.study.report import report_markdown
from search_stage.study.sample import draw_sample
from search_stage.study.study import SPEAKS, SPEAKS_FOR, Settings, measure
from search_stage.study.tables import report_tables
from store.retrieval import NO_LEVEL, MatchStatistics
from store.terminal import write_json
from tests.worlds.datasets import write_table
from tests.worlds.recall import LENGTH, NUM_USERS, TEST_FROM_MS, build_world
from tests.worlds.search import candidates_of, request_of

SETTINGS = Settings(num_users=12, seed=0, depth=1)
CANDIDATES = candidates_of([100, 203, 501, 999])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recall")
    store, dataset, export = build_world(folder, signal=1.0)
    build_index(export, store, folder / "index")
    with store:
        yield store, IndexGeneration.open(folder / "index"), dataset


def report_of(world, settings=SETTINGS, config=None):
    store, index, dataset = world
    return measure(store, index, config or SearchConfig.load(), dataset, settings, lambda step, done: None)


@pytest.fixture(scope="module")
def report(world):
    return report_of(world)


def test_a_signal_is_seen_and_noise_is_not(report, tmp_path):
    quality = report.quality[SPEAKS_FOR]
    assert quality.ndcg["soft"].mean > 0.85
    assert quality.ndcg["hard"].mean > 0.85
    assert quality.ndcg["random"].low > 0.4
    assert quality.ndcg["random"].high < 0.8
    assert quality.differences["hard - newest"].low > 0.05
    assert len(quality.ndcg["soft"].seeds) == 5
    assert report.lift[2].auc > 0.9
    store, dataset, _ = build_world(tmp_path, signal=0.0)
    with store:
        noise = report_of((store, None, dataset))
    assert abs(noise.lift[2].auc - 0.5) < 0.12
    assert noise.quality[SPEAKS].ndcg["hard"].mean < 0.9
    assert noise.index_generation == ""


def test_best_bounds_every_list(report):
    for quality in report.quality.values():
        assert all(each.share <= each.best + 1e-9 for each in quality.policies)
        assert all(each.random <= each.best + 1e-9 for each in quality.policies)
        for curve in quality.shares.values():
            assert list(curve) == sorted(curve)
            assert all(share <= best + 1e-9 for share, best in zip(curve, quality.shares["best"], strict=True))
        assert quality.shares["best"][-1] == pytest.approx(1)


def test_the_same_call_gives_the_same_report(world, report):
    assert repr(report_of(world)) == repr(report)


def test_it_is_measured_on_the_last_events_where_there_are_no_impressions(tmp_path):
    store, dataset, _ = build_world(tmp_path, signal=1.0, impressions=False)
    with store, store.snapshot() as snapshot:
        sample = draw_sample(dataset, snapshot, None, seed=0)
        assert "No impressions" in sample.origin
        assert int(sample.test.label.sum()) == NUM_USERS
        newest = {user: int(snapshot.user(user).columns.timestamp_ms.max()) for user in range(NUM_USERS)}
        assert {int(u): int(t) for u, t in zip(sample.test.user, sample.test.as_of_ms, strict=True)} == newest
        assert all(
            time < newest[int(user)]
            for user, time in zip(sample.train.user, sample.train.as_of_ms.tolist(), strict=True)
        )
        for rows in (sample.train, sample.test):
            for request in rows.requests():
                assert request.label.sum() == 1
                assert not np.isin(request.item[~request.label], request.item[request.label]).any()
        with pytest.raises(SampleError, match=r"target: .*has no impressions"):
            draw_sample(dataset, snapshot, "buy", seed=0)
        report = report_of((store, None, dataset), Settings(num_users=3, seed=0, depth=1))
    assert report.coverage.num_requests == report.num_users


def test_splits_and_targets_of_the_impressions(world, tmp_path):
    store, _, dataset = world
    with store.snapshot() as snapshot:
        sample = draw_sample(dataset, snapshot, None, seed=0)
        assert (sample.target, len(sample.train), len(sample.test)) == ("buy", 6 * NUM_USERS, 6 * NUM_USERS)
        assert set(sample.test.as_of_ms.tolist()) == {TEST_FROM_MS}
        with pytest.raises(SampleError, match=r"target: .*'buy', 'rare'.*'click'"):
            draw_sample(dataset, snapshot, "click", seed=0)
        row = {"user": 1, "item": 100, "label_buy": 1}
        write_table(tmp_path, "impressions", [{**row, "timestamp_ms": time} for time in (10, 20, 30, 40)])
        (tmp_path / "splits.json").write_text('{"train_from_ms": 20, "validation_from_ms": 25, "test_from_ms": 40}')
        sample = draw_sample(tmp_path, snapshot, None, seed=0)
        assert (sample.train.as_of_ms.tolist(), sample.test.as_of_ms.tolist()) == ([20, 30], [40])
        (tmp_path / "splits.json").write_text('{"test_from_ms": "soon"}')
        with pytest.raises(SampleError, match=r"splits\.json"):
            draw_sample(tmp_path, snapshot, None, seed=0)
        (tmp_path / "splits.json").write_text('{"test_from_ms": 1}')
        with pytest.raises(SampleError, match="nothing to learn from"):
            draw_sample(tmp_path, snapshot, None, seed=0)


@pytest.mark.parametrize("min_matches", [0, 1, 3, 8])
@pytest.mark.parametrize(("quota", "max_level", "soft", "recent"), [(8, 1, 0, 3), (9, 2, 5, 0), (30, 0, 2, 2)])
def test_a_policy_lists_what_the_searcher_lists(world, quota, min_matches, max_level, soft, recent):
    store, index, _ = world
    policy = HardPolicy(quota=quota, min_matches=min_matches, max_level=max_level)
    config = SearchConfig.model_validate(
        {"hard": {"default": policy.model_dump()}, "soft": {"top_k": soft}, "recent": {"top_k": recent}}
    )
    everything = Searcher(store, index, list_everything(SearchConfig.load(), 4))
    nothing = Association(num_groups=1, key=np.empty(0, np.int64), worth=np.empty(0))
    with store.snapshot() as snapshot:
        groups = CategoryGroups.of(snapshot.taxonomy, 1)
    for user in range(6):
        served = Searcher(store, index, config).search(request_of(user, CANDIDATES))
        answer = everything.search(request_of(user, CANDIDATES))
        for candidate, history in enumerate(ranked_histories(answer, groups, nothing)):
            part = slice(int(served.offsets[candidate]), int(served.offsets[candidate + 1]))
            expected = served.behaviors.timestamp_ms[served.index[part]]
            listed = Lists(history).listed(policy, soft, recent)
            assert len(history) == LENGTH
            assert answer.behaviors.timestamp_ms[listed].tolist() == expected.tolist()


def test_overlap_and_climbing_are_counted_as_they_were_served(world):
    store, index, _ = world
    config = SearchConfig.model_validate(
        {"hard": {"default": {"quota": 9, "min_matches": 4, "max_level": 1}}, "soft": {"top_k": 6}}
    )
    served, overlap = Searcher(store, index, config), OverlapMeasure()
    climb = ClimbMeasure(("ads", "content"), 4)
    results = [served.search(request_of(user, CANDIDATES)) for user in range(8)]
    for user, result in enumerate(results):
        overlap.add(result)
        climb.add(Searcher(store, index, list_everything(config, 4)).search(request_of(user, CANDIDATES)))
    overlap.add(served.search(request_of(777, CANDIDATES)))
    summed = overlap.result()
    sources = [
        result.source[result.offsets[c] : result.offsets[c + 1]] for result in results for c in range(len(CANDIDATES))
    ]
    assert summed.num_candidates == len(sources)
    assert summed.means["found by both"] == np.mean([np.sum(source & 3 == 3) for source in sources])
    assert summed.means["newest ones found by neither"] == np.mean([np.sum(source == 4) for source in sources])
    either = [(np.sum(source & 3 == 3), np.sum(source & 3 != 0)) for source in sources]
    assert summed.shares["both of hard or soft (Jaccard)"] == pytest.approx(np.mean([a / b for a, b in either if b]))
    coverage = climb.result(9, overlap, config.hard)
    assert coverage.unmapped_candidates == 1 / 4
    assert overlap.num_without_history == 4
    assert coverage.without_hard == pytest.approx(np.mean([not (source & 1).any() for source in sources]))
    for domain in coverage.domains:
        assert sum(domain.stops) + domain.exhausted == pytest.approx(1)
        assert list(domain.any_match) == sorted(domain.any_match)
        assert all(enough <= some for enough, some in zip(domain.enough, domain.any_match, strict=True))
        assert not any(domain.stops[2:])


def test_climbing_is_judged_by_what_was_found_below():
    count = np.zeros((80, 2, 1), np.int32)
    label = np.arange(80) % 2 == 0
    count[:40, 0] = 1
    count[:40, 1] = 1
    count[40:, 1, 0] = np.where(label[40:], 3, 1)
    lift = LiftMeasure()
    nothing = np.zeros((80, 2, 1), np.int64)
    lift.add(
        MatchStatistics(
            streams=(("ads", "click"),),
            count=count,
            age_ms=nothing,
            oldest_age_ms=nothing,
            within_ms=np.empty(0, np.int64),
            within=np.zeros((80, 2, 1, 0), np.int32),
            total_count=np.zeros(1, np.int32),
            total_age_ms=np.zeros(1, np.int64),
            total_oldest_age_ms=np.zeros(1, np.int64),
            total_within=np.zeros((1, 0), np.int32),
            half_life_ms=np.empty(0, np.int64),
            similarity=np.empty((80, 1, 0), np.float32),
        ),
        label,
    )
    zero, one = lift.result()
    assert (zero.level, zero.auc, zero.added) == (0, 0.5, ())
    assert [(each.least, each.num_rows, each.num_positives, each.auc) for each in one.added[:3]] == [
        (0, 40, 20, 1.0),
        (1, 40, 20, 0.5),
        (2, 0, 0, None),
    ]


def test_json_and_markdown(report, tmp_path):
    write_json(tmp_path / "report.json", report)
    values = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)  # no NaN
    assert values["approximate"] == {"num_candidates": 0, "recall": None}
    assert values["config"]["soft"]["top_k"] == report.config.soft.top_k
    assert values["quality"][SPEAKS]["ndcg"]["soft"]["mean"] == report.quality[SPEAKS].ndcg["soft"].mean
    text = report_markdown(report, "lookback-search recall", "a.png")
    assert "![Search quality](a.png)" in text
    for table in report_tables(report):
        assert f"## {table.title}" in text
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert not re.search("[^\x00-\x7f]|nan", text)
    assert "approximate soft search was not measured" in text
    checked = replace(report, approximate=ApproximateRecall(num_candidates=3, recall=0.75))
    assert "finds 0.750 of the best 40 of 3 candidates" in report_markdown(checked, "x", None)


def test_the_approximate_path_is_compared_with_the_exact_one(world, monkeypatch):
    store, index, _ = world
    config = SearchConfig.model_validate({"soft": {"top_k": 10, "probe_one_in": 1}})
    measured = ApproximateMeasure(store, index, config)
    measured.add(request_of(0, CANDIDATES))
    assert measured.result().num_candidates == 0
    monkeypatch.setattr(approximate, "LONG", LENGTH)
    measured.add(request_of(0, CANDIDATES))
    assert measured.result() == ApproximateRecall(num_candidates=len(CANDIDATES), recall=1.0)


def test_the_command_prints_and_writes_the_report(world, tmp_path, monkeypatch, capsys):
    store, index, dataset = world
    files = {kind: tmp_path / f"recall.{kind}" for kind in ("json", "md", "png")}
    given = ["--store", store.root, "--index", index.root, "--input", dataset, "--users", 2, "--json", files["json"]]
    given += ["--report", files["md"], "--plot", files["png"]]
    monkeypatch.setattr(sys, "argv", ["lookback-search", "recall", *map(str, given)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    out = capsys.readouterr().out
    for text in ("Logged impressions", "Climbing in the domain content", "Search NDCG@20", "served default"):
        assert text in out
    values = json.loads(files["json"].read_text())
    assert values["settings"]["num_users"] == 2
    assert values["command"].startswith("lookback-search recall --store ")
    assert "![Search quality](recall.png)" in files["md"].read_text()
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "lookback[report]" in capsys.readouterr().err


def test_wide_lists_every_behavior_of_every_candidate(world):
    store, index, _ = world
    answer = Searcher(store, index, list_everything(SearchConfig.load(), 4)).search(request_of(0, CANDIDATES))
    assert np.diff(answer.offsets).tolist() == [LENGTH] * len(CANDIDATES)
    assert answer.score[: LENGTH * 3].any()
    assert set(answer.match_level[-LENGTH:].tolist()) == {NO_LEVEL}
