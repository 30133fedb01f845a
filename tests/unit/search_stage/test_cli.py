"""The command line: what it prints, and how it fails."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.worlds.datasets import build_store
from tests.worlds.search import behavior, write_export


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `python -m search_stage`; gives exit code, output and errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lookback-search", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("search_stage", run_name="__main__")
        output = capsys.readouterr()
        return caught.value.code or 0, output.out, output.err

    return call


@pytest.fixture
def store(tmp_path):
    return build_store(
        tmp_path,
        taxonomy=[{"category": 1, "parent": None, "name": "Shoes"}],
        items=[{"item": 11, "category": 1, "name": "Boot"}],
        behaviors=[behavior("ann", 11, 86_400_000 * day) for day in range(1, 4)],
    )


def test_build_index_then_query(run, store, tmp_path):
    export = write_export(tmp_path / "model", {1: [1.0, 2.0]}, {})
    code, out, _ = run("build-index", "--export", export, "--store", store, "--index", tmp_path / "index")
    assert code == 0
    assert re.search(r"nodes +2\b.*dimensions +2\b.*approximate recall +not measured", out, re.DOTALL)
    code, out, _ = run(
        *("query", "--store", store, "--index", tmp_path / "index", "--user", "ann", "--candidate", 11),
        *("--candidate", 12, "--rows", 2),
    )
    assert code == 0
    for text in (
        "candidate Boot, category Shoes",
        "1970-01-04 00:00",
        "Shoes",
        "hard+soft+recent",
        "5.000",
        "and 1 older",
    ):
        assert text in out
    assert "candidate 12, category unknown" in out
    assert "1970-01-02" not in out


def test_query_without_an_index_says_so(run, store):
    code, out, _ = run("query", "--store", store, "--user", "ann", "--candidate", 11, "--as-of", 86_400_001)
    assert code == 0
    assert "soft search is off" in out
    assert "1 behaviors before the as-of time" in out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--as-of", 0), 2, "as_of_ms: must be positive"),
        (("--user", ""), 2, "user: an id must not be empty"),
        (("--store", "absent"), 1, "lookback-store ingest"),
        (("--index", "absent"), 1, "lookback-search build-index"),
        (("--config", "absent"), 2, "--config: absent is not there"),
        (("--config", __file__), 2, "is a file; give the folder"),
        (("--config", str(Path(__file__).parent)), 2, "has no search.yaml"),
        (("--rows", -1), 2, "--rows"),
        (("--json", "absent/file.json"), 2, "--json: absent/file.json cannot be written"),
    ],
)
def test_a_known_error_is_one_line_and_an_exit_code(run, store, arguments, code, told):
    given = run("query", "--store", store, "--user", "ann", "--candidate", 11, *arguments)
    assert given[0] == code
    assert given[2].startswith("error: ")
    assert told in given[2]
    assert len(given[2].splitlines()) == 1


def test_serve_refuses_an_open_host_without_insecure(run, store):
    code, _, err = run("serve", "--store", store, "--host", "0.0.0.0", "--port", 0)
    assert code == 2
    assert "--insecure" in err
