import os
import subprocess
import sys

import pytest

from store import BehaviorStore
from store.cli import main
from store.generation import open_generation
from tests.helpers import write_dataset
from tests.unit.store import sample


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["lookback-store", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code or 0


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = write_dataset(tmp_path / "in", **sample.tables())
    assert run(monkeypatch, "ingest", "--input", folder, "--store", tmp_path / "store") == 0
    return tmp_path / "store"


def test_ingest_publishes_and_says_what(tmp_path, monkeypatch, capsys):
    folder = write_dataset(tmp_path / "in", **sample.tables())
    assert run(monkeypatch, "ingest", "--input", folder, "--store", tmp_path / "store") == 0
    shown = capsys.readouterr().out
    with BehaviorStore.open(tmp_path / "store") as store:
        assert store.generation in shown
    assert "behaviors" in shown


def test_stats(root, monkeypatch, capsys):
    assert run(monkeypatch, "stats", "--store", root) == 0
    shown = capsys.readouterr().out
    assert "ads/click, content/view" in shown
    assert "min 2, median 5, max 5" in shown


def test_history_is_newest_first_with_names(root, monkeypatch, capsys):
    assert run(monkeypatch, "history", "--store", root, "--user", "anna", "--limit", 2) == 0
    shown = capsys.readouterr().out
    assert shown.index("apple") < shown.index("999")
    assert "2 of 5 behaviors of user anna" in shown
    assert run(monkeypatch, "history", "--store", root, "--user", "nobody") == 0
    assert "0 of 0 behaviors" in capsys.readouterr().out


def test_verify(root, monkeypatch, capsys):
    assert run(monkeypatch, "verify", "--store", root) == 0
    assert "is sound: 7 behaviors of 2 users" in capsys.readouterr().out
    (open_generation(root, "store").path / "items" / "ids.npy").write_bytes(b"")
    assert run(monkeypatch, "verify", "--store", root) == 1
    assert "ids.npy" in capsys.readouterr().err


def test_errors_are_one_clear_message_and_a_status(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "stats", "--store", tmp_path) == 1
    assert "run `lookback-store ingest" in capsys.readouterr().err
    assert run(monkeypatch, "ingest", "--input", tmp_path / "no", "--store", tmp_path) == 2
    assert "no such folder" in capsys.readouterr().err
    assert run(monkeypatch, "ingest", "--input", tmp_path, "--store", tmp_path, "--max-bad-rows", -1) == 2


def test_bad_rows_are_listed(tmp_path, monkeypatch, capsys):
    rows = [*sample.BEHAVIORS, sample.event("anna", 1, 1, -1)]
    folder = write_dataset(tmp_path / "in", **{**sample.tables(), "behaviors": rows})
    listing = tmp_path / "bad.csv"
    arguments = ("ingest", "--input", folder, "--store", tmp_path / "store", "--bad-rows", listing)
    assert run(monkeypatch, *arguments) == 2
    assert "behaviors.parquet:8: timestamp_ms" in capsys.readouterr().err
    assert run(monkeypatch, *arguments, "--max-bad-rows", 1) == 0
    assert listing.read_text().startswith("file,line,reason\nbehaviors.parquet,8,timestamp_ms")
    assert "refused behaviors.parquet:8" in capsys.readouterr().err


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "store", "--help"], capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"}
    )
    assert done.returncode == 0
    for command in ("ingest", "stats", "history", "verify"):
        assert command in done.stdout
