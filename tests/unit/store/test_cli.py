import json
import os
import re
import subprocess
import sys

import pytest

from store import BehaviorStore, parse_id, rebuild, verify
from store.cli import main
from store.publishing.generation import current_name, open_generation
from tests.worlds import living, sample
from tests.worlds.datasets import write_dataset


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
    assert "read from files" in shown


def test_ingest_adds_unless_it_is_to_replace(root, tmp_path, monkeypatch, capsys):
    more = write_dataset(tmp_path / "more", taxonomy=sample.TAXONOMY, behaviors=[sample.event("bo", 1, 1, 1)])
    options = ("--memory", 100, "--processes", 1, "--keep", 1)
    assert run(monkeypatch, "ingest", "--input", more, "--store", root, *options) == 0
    assert verify(root).num_behaviors == 8
    assert run(monkeypatch, "ingest", "--input", more, "--store", root, "--replace", "--keep", 1) == 0
    assert verify(root).num_behaviors == 1
    assert len(list((root / "generations").iterdir())) == 1
    assert "generations removed" in capsys.readouterr().out


def test_stats(root, monkeypatch, capsys):
    capsys.readouterr()
    assert run(monkeypatch, "stats", "--store", root) == 0
    shown = capsys.readouterr().out
    assert "ads/click, content/view" in shown
    assert "p50 2, p90 5, p99 5, max 5" in shown
    assert "none given" in shown
    assert run(monkeypatch, "stats", "--store", root, "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_behaviors"] == 7
    assert found["lengths"] == {"p50": 2, "p90": 5, "p99": 5, "max": 5}
    assert found["unmapped"] == [{"domain": "content", "category": "", "num_behaviors": 1}]


def test_stats_tells_of_the_delta(tmp_path, monkeypatch, capsys):
    root = living.build(tmp_path)
    assert run(monkeypatch, "stats", "--store", root) == 0
    shown = capsys.readouterr().out
    assert "4 events of 3 users since the generation was built" in shown
    assert "days ago" in shown


def test_history_is_newest_first_with_names(root, monkeypatch, capsys):
    assert run(monkeypatch, "history", "--store", root, "--user", "anna", "--limit", 2) == 0
    shown = capsys.readouterr().out
    assert shown.index("apple") < shown.index("999")
    assert "2 of 5 behaviors of user anna" in shown
    assert run(monkeypatch, "history", "--store", root, "--user", "nobody") == 0
    assert "0 of 0 behaviors" in capsys.readouterr().out


def test_history_may_be_of_some_domains_and_of_an_earlier_time(root, monkeypatch, capsys):
    assert run(monkeypatch, "history", "--store", root, "--user", "anna", "--domain", "content") == 0
    assert "2 of 5 behaviors" in capsys.readouterr().out
    assert run(monkeypatch, "history", "--store", root, "--user", "anna", "--as-of", 20) == 0
    assert "1 of 5 behaviors" in capsys.readouterr().out


def test_names_with_brackets_are_shown_as_they_are(tmp_path, monkeypatch, capsys):
    tables = {
        "taxonomy": [{"category": "[b]", "parent": None}],
        "items": [{"item": 1, "category": "[b]", "name": "[REC] (2007)"}],
        "behaviors": [sample.event("anna", 1, None, 1, "[dim]", "[red]view")],
    }
    folder = write_dataset(tmp_path / "in", **tables)
    run(monkeypatch, "ingest", "--input", folder, "--store", tmp_path / "store")
    run(monkeypatch, "history", "--store", tmp_path / "store", "--user", "anna")
    shown = capsys.readouterr().out
    for text in ("[REC] (2007)", "[b]", "[dim]", "[red]view"):
        assert text in shown
    run(monkeypatch, "stats", "--store", tmp_path / "store")
    assert "[dim]/[red]view" in capsys.readouterr().out
    run(monkeypatch, "taxonomy", "show", "--store", tmp_path / "store")
    assert "[b]" in capsys.readouterr().out


def test_verify(root, monkeypatch, capsys):
    capsys.readouterr()
    assert run(monkeypatch, "verify", "--store", root) == 0
    shown = capsys.readouterr().out
    assert "is sound: 7 behaviors of 2 users" in shown
    assert "2 of 3 categories of content are bridged" in shown
    assert f"digest {verify(root).digest}" in shown
    assert run(monkeypatch, "verify", "--store", root, "--generation", current_name(root, "store"), "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["digest"] == verify(root).digest
    (open_generation(root, "store").path / "items" / "ids.npy").write_bytes(b"")
    assert run(monkeypatch, "verify", "--store", root) == 1
    assert "ids.npy" in capsys.readouterr().err


def test_verify_says_where_a_user_is_and_fails_where_a_deleted_one_is_left(root, monkeypatch, capsys):
    capsys.readouterr()
    assert run(monkeypatch, "verify", "--store", root, "--user", "anna") == 0
    shown = capsys.readouterr().out
    assert "5 behaviors, the name, side-info, a row of the users table" in shown
    assert "never deleted" in shown
    living.delete(root, parse_id("anna"))
    assert run(monkeypatch, "verify", "--store", root, "--user", "anna") == 1
    caught = capsys.readouterr()
    assert "must go" in caught.out
    assert current_name(root, "store") in caught.err
    rebuild(root)
    assert run(monkeypatch, "verify", "--store", root, "--user", "anna", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert [place["found"] for place in found["places"]] == [[], []]


def test_export_and_backup(root, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "export", "--store", root, "--to", tmp_path / "out") == 0
    assert "behaviors-00000.parquet" in capsys.readouterr().out
    assert run(monkeypatch, "ingest", "--input", tmp_path / "out", "--store", tmp_path / "again") == 0
    assert verify(tmp_path / "again").digest == verify(root).digest
    assert run(monkeypatch, "backup", "--store", root, "--to", tmp_path / "copy") == 0
    assert current_name(root, "store") in capsys.readouterr().out
    assert verify(tmp_path / "copy").digest == verify(root).digest
    assert run(monkeypatch, "backup", "--store", root, "--to", tmp_path / "copy") == 2
    assert "not empty" in capsys.readouterr().err


def test_taxonomy_check_of_a_dataset(tmp_path, monkeypatch, capsys):
    folder = write_dataset(tmp_path / "in", **sample.tables())
    assert run(monkeypatch, "taxonomy", "check", "--input", folder) == 0
    shown = capsys.readouterr().out
    assert "no errors" in shown
    assert "9 (not home) in the tree of domain 'content': 0 events (0.00%)" in shown
    assert "7 events: 71.43% under a category, 14.29% found as their item only, 14.29% unmapped" in shown
    broken = [*sample.TAXONOMY, {"category": 1, "parent": None}, {"category": 8, "parent": 88}]
    folder = write_dataset(tmp_path / "broken", taxonomy=broken)
    assert run(monkeypatch, "taxonomy", "check", "--input", folder) == 2
    shown = capsys.readouterr().out
    assert "error duplicate-category, 1 cases" in shown
    assert "error orphan, 1 cases" in shown
    assert "2 errors" in shown
    assert run(monkeypatch, "taxonomy", "check", "--input", folder, "--json", "-") == 2
    assert json.loads(capsys.readouterr().out)["num_errors"] == 2


def test_taxonomy_check_shows_so_many_cases(tmp_path, monkeypatch, capsys):
    folder = write_dataset(tmp_path / "in", taxonomy=[{"category": key, "parent": 99} for key in range(5)])
    assert run(monkeypatch, "taxonomy", "check", "--input", folder, "--limit", 2) == 2
    shown = capsys.readouterr().out
    assert shown.count("parent 99") == 2
    assert "and 3 more" in shown


def test_taxonomy_check_of_a_store_counts_live_events(tmp_path, monkeypatch, capsys):
    root = living.build(tmp_path)
    assert run(monkeypatch, "taxonomy", "check", "--store", root) == 0
    shown = capsys.readouterr().out
    assert "12 events" in shown
    assert "404 in the tree of domain 'content': 1 events" in shown


def test_taxonomy_check_wants_one_thing_to_check(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "taxonomy", "check") == 2
    assert run(monkeypatch, "taxonomy", "check", "--input", tmp_path, "--store", tmp_path) == 2
    assert "give either --input or --store" in capsys.readouterr().err


def test_taxonomy_show(root, monkeypatch, capsys):
    capsys.readouterr()
    assert run(monkeypatch, "taxonomy", "show", "--store", root) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 categories, 4 items"
    assert any("food (1)  [0, 6), 3 items" in line for line in lines)
    assert any("fruit (2)  [1, 4), 2 items" in line for line in lines)
    assert any("3  [4, 6), 1 items" in line for line in lines)
    assert lines[-1] == "1 items stand under no category"
    assert run(monkeypatch, "taxonomy", "show", "--store", root, "--depth", 1) == 0
    shown = capsys.readouterr().out
    assert "2 categories below" in shown
    assert "fruit" not in shown
    assert run(monkeypatch, "taxonomy", "show", "--store", root, "--category", 2) == 0
    shown = capsys.readouterr().out
    assert "fruit (2)" in shown
    assert "home" not in shown
    assert run(monkeypatch, "taxonomy", "show", "--store", root, "--category", "nothing") == 2
    assert "'nothing' is no category" in capsys.readouterr().err


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
    for command in ("ingest", "stats", "history", "verify", "export", "backup", "taxonomy"):
        assert command in done.stdout


def test_append_takes_what_it_can_and_names_the_lines_it_refuses(root, tmp_path, monkeypatch, capsys):
    event = {"user": "bo", "item": 1, "domain": "ads", "action": "click", "timestamp_ms": 9_000}
    lines = [json.dumps(event), "", "[" * 200_000, json.dumps({**event, "timestamp_ms": -1}), json.dumps(event), "no"]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    capsys.readouterr()
    assert run(monkeypatch, "append", "--store", root, "--input", tmp_path / "events.jsonl") == 2
    caught = capsys.readouterr()
    numbers = re.findall(r"^ (\w+) +(\d+) *$", caught.out, flags=re.MULTILINE)
    assert numbers == [("accepted", "1"), ("duplicates", "1"), ("refused", "3")]
    refused = re.findall(r"^refused line (\d+): (.{16})", caught.err, flags=re.MULTILINE)
    assert refused == [("3", "the line is no J"), ("4", "timestamp_ms: -1"), ("6", "the line is no J")]
    assert caught.err.splitlines()[-1] == "error: 3 lines were refused; all others are in"
    with (tmp_path / "events.jsonl").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run(monkeypatch, "append", "--store", root) == 2
    assert "duplicates  2" in capsys.readouterr().out
    assert run(monkeypatch, "append", "--store", root, "--input", tmp_path / "absent") == 2
    assert "cannot be read" in capsys.readouterr().err
