"""What operators read when they mistype, go back, or hand in what is odd."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from model_stage.bundle import load_bundle
from model_stage.cli import app as model_app
from store.cli import app
from store.errors import MissingGenerationError
from store.publishing.generation import current_name, open_generation
from store.sources.file_log import MAX_LINE_BYTES
from tests.worlds.bundles import publish
from tests.worlds.datasets import build_store

EVENT = dict(user=1, item=5, domain="ads", action="view", timestamp_ms=1_710_000_000_000)


@pytest.fixture
def root(tmp_path):
    return build_store(
        tmp_path,
        behaviors=[dict(user=1, item=7, category=3, domain="ads", action="click", timestamp_ms=5)],
        taxonomy=[dict(category=3, parent=None)],
    )


def test_a_mistyped_generation_is_answered_by_those_there_are(root, tmp_path):
    there = current_name(root, "store")
    with pytest.raises(MissingGenerationError, match=f"no such store generation; there are {there}$"):
        open_generation(root, "store", "20990101-000000-00000000")
    with pytest.raises(MissingGenerationError, match="stor: no such folder; is the path right"):
        current_name(tmp_path / "stor", "store")


def test_an_older_bundle_becomes_current_again(tmp_path):
    first = publish(tmp_path)
    second = publish(tmp_path, seed=1)
    assert load_bundle(tmp_path).name == second
    result = CliRunner().invoke(model_app, ["bundle", "rollback", "--bundle", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert load_bundle(tmp_path).name == first
    with pytest.raises(MissingGenerationError, match="no generation before the current one is kept: builds keep"):
        CliRunner().invoke(model_app, ["bundle", "rollback", "--bundle", str(tmp_path)], catch_exceptions=False)


def test_appended_times_in_seconds_and_a_line_without_bound_are_told(root, tmp_path):
    lines = [EVENT, EVENT | {"timestamp_ms": 1_710_000_000}, EVENT | {"timestamp_ms": 7, "item": 8}]
    texts = [*map(json.dumps, lines), "x" * (MAX_LINE_BYTES + 5), json.dumps(EVENT | {"item": 9})]
    (tmp_path / "events.jsonl").write_text("\n".join(texts))
    command = [sys.executable, "-m", "store", "append", "--store", str(root), "--input", str(tmp_path / "events.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "accepted" in done.stdout
    assert "2 times before 2000, such as line 2: 1710000000 is 1970-01-20; it is 2024-03-09 if it counts" in done.stderr
    assert "refused line 4: the line is no JSON" in done.stderr
    assert "1 lines were refused" in done.stderr


def test_bytes_that_are_no_text_are_one_line_in_any_locale(root, tmp_path):
    env = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

    def run(*words):
        command = [sys.executable, "-m", "store", *words]
        return subprocess.run(command, capture_output=True, env=env, timeout=120, check=False)

    done = run("history", "--store", str(root), "--user", b"\xe9")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"user: '\\udce9' is no text in UTF-8" in done.stderr
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "taxonomy.csv").write_text("category,parent\n3,\n")
    header = "user,item,category,domain,action,timestamp_ms\n"
    (folder / "behaviors.csv").write_text(header + "1,1,3,ads,view,\u00e9\n1,2,3,ads,view,5\n", encoding="utf-8")
    refused = str(tmp_path / "refused.csv")
    options = ("--max-bad-rows", "5", "--bad-rows", refused)
    done = run("ingest", "--input", str(folder), "--store", str(tmp_path / "new"), *options)
    assert done.returncode == 0, done.stderr
    assert "\u00e9" in (tmp_path / "refused.csv").read_text(encoding="utf-8")


def test_the_store_command_lists_its_kinds(root):
    assert "none" in CliRunner().invoke(app, ["stats", "--store", str(root)]).output
