"""The daily job: what it publishes, when it does not, and that a run that ends anywhere leaves what serves."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from model_stage.bundle import KIND
from model_stage.errors import BundleMismatchError, ConfigError
from scripts.daily import job as jobs
from scripts.daily.__main__ import REFUSED, main
from scripts.daily.job import DailyJob
from scripts.daily.memory import Memory
from store.command import command_line, run
from store.errors import InputError, LockedError
from store.publishing.generation import current_name
from store.publishing.kept import kept_generations
from store.publishing.lock import FileLock
from tests.worlds.daily import config_of, next_day, publish_first_day, serves, write_config


class Killed(BaseException):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def first_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first bundle is published."""
    return publish_first_day(tmp_path_factory.mktemp("daily"))


@pytest.fixture
def day(first_day: Path, tmp_path: Path) -> Path:
    """The same, with new behaviors, for one test."""
    return next_day(first_day, tmp_path / "day")


def test_a_day_is_published_once(day):
    job, before = config_of(day), serves(day)
    stores = len(kept_generations(job.store))
    first = DailyJob(job).run()
    assert first.outcome == "published"
    assert list(first.seconds) == ["ingest", "train", "gate", "publish", "verify"]
    assert serves(day) == first.bundle != before
    assert len(kept_generations(job.store)) == stores + 1
    assert {gain["metric"] for gain in first.gate["gains"]} == {"auc", "gauc", "logloss"}
    again = DailyJob(job).run()
    assert (again.outcome, again.bundle, again.seconds) == ("nothing new", first.bundle, {})


def test_new_impressions_are_a_new_day_and_old_bundles_go(day):
    job, names = config_of(day, incoming=None, keep=2), [serves(day)]
    impressions = pq.read_table(day / "data" / "impressions.parquet")
    for number in range(2):
        pq.write_table(impressions.slice(number + 1), day / "data" / "impressions.parquet")
        summary = DailyJob(job).run()
        assert summary.outcome == "published"
        assert list(summary.seconds) == ["train", "gate", "publish", "verify"]
        names.append(summary.bundle)
    assert kept_generations(job.bundles) == names[1:]
    assert serves(day) == names[-1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"tolerance": 0.0}, "may be worse by"), ({"max_calibration_error": 1e-9}, "has a calibration error of")],
)
def test_what_does_not_pass_is_not_published_and_not_tried_again(day, changes, reason):
    before = serves(day)
    for steps in (["ingest", "train", "gate"], []):
        summary = DailyJob(config_of(day, **changes)).run()
        assert summary.outcome == "refused"
        assert any(reason in each for each in summary.reasons)
        assert list(summary.seconds) == steps
        assert serves(day) == before


def killed_after(number, monkeypatch):
    """Ends the run where its memory is written for the number-th time: before it, or behind it."""
    write, times = Memory.write, []

    def once(self, file):
        times.append(file)
        if len(times) == (number + 1) // 2:
            if number % 2:
                write(self, file)
            raise Killed
        write(self, file)

    monkeypatch.setattr(Memory, "write", once)


def test_a_run_that_ends_anywhere_is_finished_by_the_next(day, tmp_path, monkeypatch):
    for number in range(1, 15):
        folder = tmp_path / f"at-{number}"
        shutil.copytree(day, folder)
        before = serves(folder)
        with monkeypatch.context() as patched:
            killed_after(number, patched)
            try:
                assert DailyJob(config_of(folder)).run().outcome == "published"
                assert number > 13, "no write of the memory was the one to be killed at"
                continue
            except Killed:
                pass
        serves(folder)
        summary = DailyJob(config_of(folder)).run()
        assert summary.outcome in ("published", "nothing new")
        assert serves(folder) == summary.bundle != before
        shutil.rmtree(folder)


def test_a_bundle_that_does_not_answer_is_taken_back(day, monkeypatch):
    before = serves(day)

    def refuse(*_: object) -> int:
        raise BundleMismatchError("it answers otherwise")

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "verify", refuse)
        with pytest.raises(BundleMismatchError, match="it answers otherwise"):
            DailyJob(config_of(day)).run()
    assert serves(day) == before
    summary = DailyJob(config_of(day)).run()
    assert summary.outcome == "published"
    assert list(summary.seconds) == ["publish", "verify"]
    assert current_name(config_of(day).bundles, KIND) == summary.bundle


def test_a_service_that_does_not_take_it_up_is_an_error(day):
    before = serves(day)
    with pytest.raises(BundleMismatchError, match=r"127\.0\.0\.1:1: does not answer with .* after 1 s"):
        DailyJob(config_of(day, ranking="127.0.0.1:1", wait_s=1.0)).run()
    assert serves(day) == before


def test_the_service_is_asked_as_it_wants_to_be(day):
    token = day / "token"
    security = {"tls_ca": str(day / "absent.pem"), "token_file": str(token)}
    before = serves(day)
    with pytest.raises(InputError, match=r"absent\.pem"):
        DailyJob(config_of(day, ranking="127.0.0.1:1", security=security)).run()
    assert serves(day) == before


def test_only_one_runs_at_a_time(day):
    job = config_of(day)
    job.work.mkdir()
    with FileLock(job.work / "daily.lock", "test"), pytest.raises(LockedError, match=r"daily\.lock"):
        DailyJob(job).run()


def test_wrong_input_is_a_typed_error(day):
    with pytest.raises(ConfigError, match=r"bundles: .* has no published bundle; `python -m scripts.pipeline`"):
        DailyJob(config_of(day, bundles=day / "none")).run()
    (config_of(day).work).mkdir(exist_ok=True)
    (config_of(day).work / "daily.json").write_text('{"key": 1}')
    with pytest.raises(InputError, match=r"daily\.json: is not what the daily job writes"):
        DailyJob(config_of(day)).run()


def test_the_command_says_what_became_of_it(day, monkeypatch, capsys):
    file = write_config(day, tolerance=0.0)
    monkeypatch.setattr(sys, "argv", ["x", "--config", str(file), "--json", str(day / "out.json")])
    with pytest.raises(SystemExit) as ended:
        run(command_line(None, main))
    assert ended.value.code == REFUSED
    assert "refused" in capsys.readouterr().out
    written = json.loads((day / "out.json").read_text())
    assert written["outcome"] == "refused"
    assert written["reasons"]
