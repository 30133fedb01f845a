"""The commands that publish an index: what they print, and that they do what they say."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from search_stage.cli import app
from search_stage.errors import IndexCheckError
from store.publishing.generation import current_name
from store.publishing.kept import kept_generations
from tests.worlds.search import write_export


@pytest.fixture
def call(tmp_path, index_store, export, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def build(*options):
        arguments = ["--export", export.parent, "--store", index_store.root, "--index", tmp_path / "index", *options]
        return CliRunner().invoke(app, ["build-index", *map(str, arguments)], catch_exceptions=False).output

    return build


def shown(output, name):
    """Gives the value in the row of a name."""
    return re.search(rf"^ *{re.escape(name)}  +(.*?) *$", output, re.MULTILINE).group(1)


def test_a_dry_run_prints_what_it_would_publish(call, tmp_path):
    output = call("--dry-run", "--dtype", "bfloat16")
    assert shown(output, "published") == "nothing: a dry run"
    assert shown(output, "nodes") == "8"
    assert shown(output, "with a vector of their own") == "3"
    assert shown(output, "with a category's") == "2"
    assert shown(output, "without one") == "3"
    assert shown(output, "carried over") == "0"
    assert shown(output, "new or changed") == "8"
    assert shown(output, "clusters of") == "this build: no index is published there"
    assert shown(output, "attention.npy") == "36 B"
    assert not (tmp_path / "index").exists()


def test_a_second_build_carries_over_and_removes_the_first(call, tmp_path):
    call()
    first = current_name(tmp_path / "index", "index")
    output = call("--keep", 1)
    second = current_name(tmp_path / "index", "index")
    assert shown(output, "published") == second
    assert shown(output, "carried over") == "8"
    assert shown(output, "clusters of") == first
    assert f"removed {first}" in output
    assert shown(call("--full"), "clusters of") == "this build: asked for"
    assert kept_generations(tmp_path / "index")[0] == second


def test_what_killed_builds_left_is_removed(call, tmp_path):
    call()
    (tmp_path / "index" / ".building-killed").mkdir()
    call()
    assert not (tmp_path / "index" / ".building-killed").exists()


def test_rollback_makes_the_one_before_current(call, tmp_path):
    call()
    first = current_name(tmp_path / "index", "index")
    call()
    output = CliRunner().invoke(app, ["rollback-index", "--index", str(tmp_path / "index")]).output
    assert f"current is {first}" in output
    assert current_name(tmp_path / "index", "index") == first


def test_what_cannot_be_published_is_an_error(call, tmp_path):
    write_export(tmp_path / "20261122-000000-0000abcd", {1: [1e6, 0.0]}, {})
    with pytest.raises(IndexCheckError, match="dtype: float16 cannot hold"):
        call("--dtype", "float16")
