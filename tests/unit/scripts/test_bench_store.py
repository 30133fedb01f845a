"""The shape of what the benchmark of the store writes, at tiny sizes; no timing is looked at."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.bench.store.command import bench
from scripts.bench.store.run import LIVE_ROWS, Settings
from scripts.bench.store.world import FIRST_EXACT_USER, World
from scripts.bench.timing import Spread, StepTimes
from store.behavior_store import BehaviorStore
from store.building.ingest import ingest

LENGTHS = (20, 60)
TINY = Settings(
    items=500,
    events=3_000,
    large=4_000,
    repeats=2,
    lengths=LENGTHS,
    read_repeats=2,
    calls=3,
    appends=25,
    batch_rows=10,
    singles=6,
)
NAMED = {
    "ingest_events_per_s",
    "ingest_vs_raw_lmdb",
    "append_durable_p50_ms",
    "append_batch_events_per_s",
    "read_user_us",
    "cut_user_us",
    "cut_user_first_us",
    "disk_over_raw",
    "ingest_peak_rss_mib",
}


def write_clicks(folder: Path, num_clicks: int = 50) -> Path:
    """The original click log, as `scripts.datasets.globo_news` reads it."""
    folder.mkdir()
    header = (
        "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment,"
        "click_deviceGroup,click_os,click_country,click_region,click_referrer_type"
    )
    clicks = [f"{row % 7},1,0,2,{10 + row % 5},{1000 + row},4,{row % 3},20,1,20,2" for row in range(num_clicks)]
    (folder / "clicks.csv.gz").write_bytes(gzip.compress("\n".join([header, *clicks, ""]).encode()))
    for name in ("articles_metadata_partial_first_rows.csv", "articles_metadata_partial_95.csv"):
        (folder / name).write_text("article_id,category_id,created_at_ts,publisher_id,words_count\n10,3,9,0,1\n")
    return folder


@pytest.fixture(scope="module", autouse=True)
def in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("run", "clicks"):
            patch.setattr(f"scripts.bench.store.{module}.in_child", lambda call, *arguments: call(*arguments))
        yield


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str, Path]:
    folder = tmp_path_factory.mktemp("bench")
    clicks = write_clicks(folder / "originals")
    facts, sections = bench(folder / "work", replace(TINY, clicks=clicks))
    return json.loads(json.dumps(facts)), "\n\n".join(sections), folder


def test_the_named_numbers_are_there_and_positive(outcome: tuple[dict, str, Path]) -> None:
    facts = outcome[0]

    assert facts.keys() >= NAMED
    assert set(facts["definitions"]) == NAMED
    for name in ("read_user_us", "cut_user_us", "cut_user_first_us"):
        assert list(facts[name]) == [str(length) for length in LENGTHS]
        assert all(value > 0 for value in facts[name].values())
    assert all(facts[name] > 0 for name in NAMED - {"read_user_us", "cut_user_us", "cut_user_first_us"})


def test_every_number_comes_with_its_spread_and_its_control(outcome: tuple[dict, str, Path]) -> None:
    facts = outcome[0]

    spread = facts["spread"]
    assert set(spread) == NAMED - {"disk_over_raw", "ingest_peak_rss_mib"}
    assert spread["ingest_events_per_s"]["repeats"] == TINY.repeats
    for one in (spread["ingest_events_per_s"], spread["append_durable_p50_ms"], *spread["cut_user_us"].values()):
        assert one["min"] <= one["median"] <= one["max"]
    assert set(facts["controls"]) == {"raw_lmdb_events_per_s", "append_durable", "append_batch"}
    assert sum(facts["share_of_time"]["ingest"].values()) == pytest.approx(1.0)
    assert set(facts["peak_rss_mib_by_events"]) == {"3000", "4000"}
    assert {"processor", "file_system", "versions", "load_average"} <= facts["machine"].keys()
    assert facts["command"].startswith("python -m scripts.bench store --json FILE --events 3000 ")


def test_all_events_are_accounted_for(outcome: tuple[dict, str, Path]) -> None:
    measured = outcome[0]["measurements"]

    assert [build["held"] for build in measured["ingests"]] == [3_000, 3_000]
    assert measured["appends"]["batches"]["accepted"] == 25
    assert measured["appends"]["singles"]["accepted"] == 6
    # Base, the exact users, appends, as many again of the many callers, and every exact user's live events.
    live = len(LENGTHS) * max(LIVE_ROWS)
    assert measured["rebuild"]["held"] == 3_000 + sum(LENGTHS) + 25 + 6 + 6 + live


def test_the_click_log_is_the_same_ingested_and_appended(outcome: tuple[dict, str, Path]) -> None:
    clicks = outcome[0]["globo_news"]

    assert clicks["clicks"] == 50
    assert clicks["base_events"] + clicks["appends"] == 50
    assert clicks["same_content_as_ingest"] is True


def test_the_report_names_no_folder_of_this_machine_and_the_work_is_gone(outcome: tuple[dict, str, Path]) -> None:
    facts, report, folder = outcome

    assert str(folder) not in report + json.dumps(facts)
    assert not (folder / "work").exists()
    assert all(target["what"] in report for target in facts["targets"])


def test_without_the_click_log_the_report_says_so(tmp_path: Path) -> None:
    few = replace(TINY, repeats=1, read_repeats=1, large=0, events=1_000)
    facts, sections = bench(tmp_path / "work", few)

    assert facts["globo_news"] == "not measured: the original files are not there"
    assert any("Not measured" in section for section in sections)


def test_exact_users_have_exactly_the_asked_number_of_behaviors(tmp_path: Path) -> None:
    world = World(1_000, 500)
    world.write(tmp_path / "data")
    world.write_exact(tmp_path / "exact", [5, 3_000])
    ingest(tmp_path / "data", tmp_path / "store", processes=1)
    ingest(tmp_path / "exact", tmp_path / "store", processes=1)

    with BehaviorStore.open(tmp_path / "store") as store, store.snapshot() as snapshot:
        lengths = [snapshot.user(FIRST_EXACT_USER + length).columns.num_behaviors for length in (5, 3_000)]
    assert lengths == [5, 3_000]


def test_the_same_world_twice(tmp_path: Path) -> None:
    batches = [list(World(2_000, 500).newer(30, 20)) for _ in range(2)]

    assert [len(batch) for batch in batches[0]] == [20, 10]
    for first, second in zip(*batches, strict=True):
        np.testing.assert_array_equal(first.user, second.user)
        np.testing.assert_array_equal(first.item, second.item)
        assert first.scene == second.scene
    assert int(batches[0][0].timestamp_ms[-1]) < int(batches[0][1].timestamp_ms[0])


def test_spread_and_steps() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(min=1.0, median=2.0, max=3.0, repeats=3)
    steps = StepTimes()
    steps("read", 0.5)
    steps("read", 1.0)
    steps("write", 1.0)
    assert list(steps.seconds()) == ["read", "write"]
    assert all(seconds >= 0 for seconds in steps.seconds().values())
