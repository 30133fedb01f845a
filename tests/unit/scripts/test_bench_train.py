"""The training benchmark on tiny tables: both kinds are timed on the same requests."""

from __future__ import annotations

import json

import pytest

from scripts.bench.train import command as bench_train


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(bench_train, "in_child", lambda call, *arguments: call(*arguments))


def test_every_row_has_its_numbers(in_process, tmp_path, capsys, monkeypatch):
    # Ten steps hardly raise the peak of a process that has done other tests.
    peaks = iter(range(100, 100_000, 7))
    monkeypatch.setattr("scripts.bench.train.work.peak_rss_mib", lambda: float(next(peaks)))
    bench_train.train(
        tmp_path / "out.json", tmp_path / "out.md", items=[300, 600], steps=3, requests=2, rounds=2, warm_up=2
    )
    facts = json.loads((tmp_path / "out.json").read_text())
    assert [(row["items"], row["tables"]) for row in facts["rows"]] == [
        (items, kind) for items in (300, 600) for kind in ("dense", "touched")
    ]
    for row in facts["rows"]:
        assert row["step_ms"]["repeats"] == 6
        assert 0 < row["step_ms"]["min"] <= row["step_ms"]["median"] <= row["step_ms"]["max"]
        assert len(row["median_of_each_round_ms"]) == 2
        assert row["training_mib"] == 7
        assert 100 < row["touched_rows"] <= 2 * (100 + 16) + 220 + 1
    dense, touched = facts["rows"][:2]
    assert dense["touched_rows"] == touched["touched_rows"]
    ratio = dense["step_ms"]["median"] / touched["step_ms"]["median"]
    assert facts["ratios"][0]["dense_over_touched"] == pytest.approx(ratio)
    assert facts["data"] == "generated"
    report = (tmp_path / "out.md").read_text()
    assert "Generated requests" in report
    assert "| 600 | touched |" in report
    assert "touched" in capsys.readouterr().out
