"""The part of the benchmark of search that asks real requests, on a tiny world; no timing is looked at."""

from __future__ import annotations

import shutil

import pytest

from scripts.bench.search.command import _real, _real_rows
from scripts.bench.search.real import RealWorld, bench_real, largest_requests
from scripts.generate.dataset import Settings, generate
from scripts.pipeline import CONFIGS, publish_search


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    generate(Settings(seed=1, users=20, mean_behaviors=40, requests=60, candidates=(6, 9)), folder / "data")
    shutil.copytree(CONFIGS / "generated", folder / "config")
    (folder / "config" / "train.yaml").write_text("train: {max_epochs: 1, batch_candidates: 128}\n")
    roots = publish_search(folder / "data", folder / "config", folder, lambda *_: None)
    return RealWorld(roots=roots, requests=largest_requests(folder / "data", folder / "config"))


def test_real_requests_have_rows_and_percentiles_of_all_of_them(world, tmp_path):
    assert {len(request.candidates) for request in world.requests} == {9}
    measured = bench_real(world, tmp_path / "logs", 1)
    rows, whole = measured["rows"], measured["whole"]
    assert [row["L"] for row in rows] == sorted(row["L"] for row in rows)
    assert all(
        row["C"] == 9 and row["total_ms"] > 0 and row["control_ms"] > 0 and row["rpc_total_ms"] > 0 for row in rows
    )
    assert all(row["recall_at_20"] == 1 for row in rows)
    assert (whole["requests"], whole["C"]) == (len(world.requests), 9)
    assert whole["search_p99_ms"] >= whole["search_p50_ms"] > 0
    assert "The first table" in _real_rows({"real_whole": whole, "real": rows})


def test_where_there_are_no_data_it_says_so(tmp_path, capsys):
    rows, whole = _real(None, tmp_path, 1)
    assert "left out" in capsys.readouterr().err
    assert "Left out" in _real_rows({"real_whole": whole, "real": rows})
