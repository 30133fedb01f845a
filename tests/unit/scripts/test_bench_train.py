"""The training benchmark, small: every part has its numbers, and the control reads what the network reads."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from model_stage.encoding.batch import collate
from scripts.bench.cost.world import ITEMS
from scripts.bench.train import command as bench_train
from scripts.bench.train.loop import OWN, make_examples
from scripts.bench.train.plain import PaddedExamples, PlainTIN


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(bench_train, "in_child", lambda call, *arguments: call(*arguments))


def test_every_row_has_its_numbers(in_process, tmp_path, capsys, monkeypatch):
    # Ten steps hardly raise the peak of a process that has done other tests.
    peaks = iter(range(100, 100_000, 7))
    monkeypatch.setattr("scripts.bench.train.work.peak_rss_mib", lambda: float(next(peaks)))
    bench_train.train(
        tmp_path / "out.json",
        tmp_path / "out.md",
        preset=["popularity"],
        items=[300, 600],
        steps=3,
        requests=2,
        rounds=2,
        warm_up=2,
        held=4,
    )
    facts = json.loads((tmp_path / "out.json").read_text())
    plain, ours = facts["loop"]
    assert (plain["preset"], ours["preset"], plain["over_plain"]) == ("plain loop", "popularity", 1.0)
    for row in (plain, ours):
        assert row["step_ms"]["repeats"] == 6
        assert row["examples_per_s"] == pytest.approx(32 / row["step_ms"]["median"] * 1000)
        assert row["pairs_per_s"] == pytest.approx(100 * row["examples_per_s"])
    small, large = facts["memory"]
    assert (small["requests"], large["requests"]) == (4, 40)
    assert large["files_mib"] > 5 * small["files_mib"]
    assert min(row[key] for row in (small, large) for key in ("writing_mib", "training_mib")) > 10
    assert len(facts["targets"]) == 2
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
    assert "| popularity |" in report
    assert "| 600 | touched |" in report
    assert "touched" in capsys.readouterr().out


def test_the_plain_control_reads_what_the_network_reads():
    """Its rows are those of the ragged columns; beyond the end of a list nothing is read."""
    made = list(make_examples(3))
    short = made[1].encoded.take(np.arange(16))
    short = replace(
        short,
        offsets=np.concatenate([short.offsets[:1], short.offsets[1:] - 40]),
        pair_behavior=short.pair_behavior[40:],
        match_level=short.match_level[40:],
        source=short.source[40:],
    )
    made[1] = replace(made[1], encoded=short)
    padded = PaddedExamples.of(made)
    assert padded.node_NL.shape == (3 * 16, OWN)
    assert padded.mask_NL.sum(1).tolist() == [OWN] * 16 + [OWN - 40] + [OWN] * 31
    batch = collate([example.encoded for example in made])
    assert torch.equal(padded.node_NL[padded.mask_NL], batch.behavior_node_U[batch.behavior_M])
    network = PlainTIN(ITEMS, padded.dense_NS.shape[1])
    with torch.no_grad():
        whole = network(padded)
        node_NL = padded.node_NL.masked_fill(~padded.mask_NL, 17)
        assert torch.equal(network(replace(padded, node_NL=node_NL)), whole)
        alone = network(padded.take(torch.tensor([5])))
    torch.testing.assert_close(alone[0], whole[5], rtol=1e-5, atol=1e-6)
