"""The index benchmark on a tiny world: the rebuild and its control do the same work."""

from __future__ import annotations

import json

import pytest

from scripts.bench.index import command as bench_index
from scripts.bench.index import work


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(work, "EVENTS", 20_000)
    monkeypatch.setattr(bench_index, "in_child", lambda call, *arguments: call(*arguments))


def test_every_row_has_its_numbers(in_process, tmp_path, capsys):
    bench_index.index(4_000, 40, 8, 1, tmp_path / "out.json", tmp_path / "out.md")
    facts = json.loads((tmp_path / "out.json").read_text())
    full, half, brain, grown = facts["rows"]
    assert full["rows"] == 4_000 + 2_000 + 1
    assert (full["carried"], grown["carried"]) == (0, 6_000)
    assert grown["rows"] == full["rows"] + 40
    assert half["mib"] == brain["mib"] < full["mib"]
    assert full["rebuild_over_control"] == pytest.approx(full["rebuild_s"] / full["control_s"])
    for row in facts["rows"]:
        assert sum(row["parts_s"].values()) == pytest.approx(row["rebuild_s"])
        assert row["peak_rss_mib"] > 0
    assert facts["control"][0]["parts"].keys() == {"gather", "k-means", "assign", "save"}
    assert facts["data"] == "generated"
    assert f"| float32, from nothing | {full['rebuild_s']:.2f} |" in (tmp_path / "out.md").read_text()
    assert "float32, from nothing" in capsys.readouterr().out
