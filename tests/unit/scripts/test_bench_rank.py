"""The ranking benchmark, small: its controls compute what they stand for, and it has all of its numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from model_stage.bundle import new_network
from model_stage.encoding.batch import collate
from model_stage.networks import NetworkConfig
from model_stage.networks.preset import load_preset
from scripts.bench.cost.world import make_request, vocabularies
from scripts.bench.rank import command as bench_rank
from scripts.bench.rank import rows, throughput
from scripts.bench.rank.floor import draw_attention
from scripts.bench.rank.model import DIM, MORE_NETWORKS, PRESETS, THREE, WIDE, num_attentions
from scripts.bench.rank.naive import NaiveSIM
from scripts.bench.rank.report import _network, find_targets
from scripts.bench.rank.shared import SharedControl
from scripts.bench.rank.world import build_rank_world
from scripts.bench.search.real import RealWorld
from scripts.bench.workers import measure_workers
from scripts.servers import CHECKOUT, Roots
from store.errors import InputError
from store.lists import spans

ITEMS = 500


def spread_network(preset):
    """A network whose weights all have something to say."""
    config = NetworkConfig.model_validate({"preset": preset})
    network = new_network(WIDE, THREE, config, vocabularies(ITEMS), seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for table in (network.attention.node, network.representation.node):
            table.weight[0] = 0.0  # "none" says nothing
    return network, config


def requests():
    """Lists of their own, the same one for all, ragged ones, and none."""
    draw = np.random.default_rng(0)
    return make_request(draw, 30, 7, ITEMS, own=12), make_request(draw, 30, 7, ITEMS), fewer(12), fewer(0)


@pytest.mark.parametrize("preset", [*PRESETS, *MORE_NETWORKS])
def test_the_shared_control_computes_what_the_network_does(preset):
    network, config = spread_network(preset)
    control = SharedControl(network, config, WIDE, THREE, vocabularies(ITEMS).tree.path)
    for request in requests():
        with torch.inference_mode():
            expected = network(collate([request])).logit_BT
        torch.testing.assert_close(control(request), expected, atol=2e-5, rtol=1e-5)


def fewer(most):
    """A request whose candidates have 0, 1, ... behaviors, `most` at most."""
    request = make_request(np.random.default_rng(1), 30, 7, ITEMS, own=12)
    lengths = np.minimum(np.arange(7) * 2, most)
    pairs, offsets = spans(request.offsets[:-1], lengths)
    return replace(
        request,
        pair_behavior=request.pair_behavior[pairs],
        match_level=request.match_level[pairs],
        source=request.source[pairs],
        offsets=offsets,
    )


def test_the_floor_is_one_attention_of_tin():
    """The formulas of `model_stage/blocks/tin.py`, candidate by candidate."""
    plain = draw_attention(5, 40, 9, DIM, [6, 3])
    interest_BD, mass_B, weight_BK = plain()
    for at in range(5):
        rows, buckets = plain.index_BK[at], [bucket_BK[at] for bucket_BK in plain.buckets]
        key_KD = plain.key_UD[rows] + sum(table[b] for table, b in zip(plain.key_tables, buckets, strict=True))
        item_KD = plain.item_UD[rows] + sum(table[b] for table, b in zip(plain.item_tables, buckets, strict=True))
        score_K = key_KD @ plain.query_BD[at] / DIM**0.5
        torch.testing.assert_close(weight_BK[at], torch.softmax(score_K, 0))
        torch.testing.assert_close(mass_B[at], torch.log(1 + torch.exp(score_K).sum()))
        torch.testing.assert_close(interest_BD[at], (weight_BK[at] @ item_KD) * plain.value_BD[at])


def test_the_naive_control_repeats_the_history_for_every_candidate():
    sim = NaiveSIM([50, 10, 3]).eval()
    draw = torch.Generator().manual_seed(0)
    history = torch.stack([torch.randint(0, rows, (300,), generator=draw) for rows in (50, 10, 3)], dim=1)
    time = torch.randint(0, 24, (300,), generator=draw)
    candidates = torch.tensor([[1, 2], [3, 4], [1, 2], [5, 6]])
    seen = []
    sim.of_history.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[:2]))
    with torch.no_grad():
        together = sim(history, time, candidates)
        alone = torch.cat([sim(history, time, candidates[[at]]) for at in range(4)])
    assert seen[0] == (4, 300)
    torch.testing.assert_close(together, alone)


def test_attentions_are_counted():
    counted = {name: num_attentions(load_preset(name)) for name in (*PRESETS, *MORE_NETWORKS)}
    assert counted == {
        "tencent": 18,
        "tin": 3,
        "sim_soft": 6,
        "longer": 0,
        "popularity": 0,
        "tencent_no_sasrec": 18,
        "sasrec": 0,
    }


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench_rank, "LENGTHS", (200, 400))
    monkeypatch.setattr(bench_rank, "CANDIDATES", (1, 12))
    monkeypatch.setattr(bench_rank, "ITEMS", 5_000)
    monkeypatch.setattr(bench_rank, "ALTERNATIONS", 1)
    monkeypatch.setattr(rows, "CLIENT_MS", 1.0)
    monkeypatch.setattr(rows, "LOCAL_MS", 1.0)


def test_every_row_has_its_numbers(small, tmp_path):
    bench_rank.rank(tmp_path / "out.json", tmp_path / "out.md", ["rows"], ["tin", "popularity"], rounds=2)
    facts = json.loads((tmp_path / "out.json").read_text())
    cases = [(name, count, length) for length in (200, 400) for count in (1, 12) for name in ("tin", "popularity")]
    assert [(row["preset"], row["C"], row["L"]) for row in facts["rows"]] == cases
    for row in facts["rows"]:
        assert row["calls"] == 2
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert min(row["control_naive_ms"], row["control_shared_ms"], row["search_ms"], row["network_ms"]) > 0
        assert row["retrieved"] > 0
    assert "| tin | 12 | 400 |" in (tmp_path / "out.md").read_text()


def test_networks_stand_beside_those_of_another_checkout_and_of_an_earlier_run(small, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("protos", "store", "serving", "search_stage", "model_stage"):
        (other / name).symlink_to(CHECKOUT / name)
    numbers = {"date": "2026-01-02", "command": "rank", "machine": {"load_average": 0.5}, "workers_ratio": 1.25}
    (tmp_path / "a.json").write_text(json.dumps(numbers))
    earlier = tmp_path / "a.json"
    bench_rank.rank(
        tmp_path / "b.json", tmp_path / "b.md", ["network"], ["tin"], rounds=1, baseline=other, before=earlier
    )
    facts = json.loads((tmp_path / "b.json").read_text())
    (row,), (before,) = facts["network"], facts["network_before"]
    assert row["preset"] == before["preset"] == "tin"
    assert row["attentions"] == 3
    assert min(row["network_ms"], row["backward_ms"], row["plain_attention_ms"], before["network_ms"]) > 0
    assert {each["what"] for each in facts["targets"]} == {
        "network `tin` over 3 plain attentions",
        "forward and backward of `tin` over its forward",
    }
    text = (tmp_path / "b.md").read_text()
    assert "before: forward" in text
    assert "| two ranking workers over one | 1.25 |" in text


def test_real_requests_are_searched(small, tmp_path, monkeypatch):
    def built(originals, folder):
        world = build_rank_world(folder, ["popularity"], (200,), 5_000)
        roots = Roots(
            store=world.searched.store, index=world.searched.index, bundle=world.bundles["popularity"], config=folder
        )
        return RealWorld(roots=roots, requests=[world.request(200, 12, seed).query() for seed in range(3)])

    monkeypatch.setattr(bench_rank, "build_real_world", built)
    bench_rank.rank(tmp_path / "out.json", tmp_path / "out.md", ["search"], real=tmp_path)
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["real_search"]["requests"] == 3
    assert facts["real_search_ms"] == facts["real_search"]["search_p50_ms"] > 0
    assert "3 requests of Complete Journey" in (tmp_path / "out.md").read_text()


def test_without_real_data_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_rank, "package_folder", lambda: None)
    bench_rank.rank(tmp_path / "out.json", None, ["search"])
    assert "real_search_ms" not in json.loads((tmp_path / "out.json").read_text())
    assert "left out" in capsys.readouterr().err


def test_workers_are_compared(small, tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "measure_workers", partial(measure_workers, counts=(1,)))
    monkeypatch.setattr(bench_rank, "WORKERS_ROUNDS", 1)
    monkeypatch.setattr(bench_rank, "WORKERS_SECONDS", 0.5)
    bench_rank.rank(tmp_path / "out.json", tmp_path / "out.md", ["workers"], ["popularity"])
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["workers_ratio"] == 1
    (row,) = facts["workers"]["rows"]
    assert min(row["requests_per_s"], row["server_cpu_ms"], row["asked_cpu_ms"], row["client_cpu_ms"]) > 0
    assert "## Ranking workers" in (tmp_path / "out.md").read_text()


def test_a_row_that_the_earlier_run_has_not_stays_empty():
    row = {"network_ms": 2.0, "backward_ms": 6.0, "plain_attention_ms": 0.5, "attentions": 3}
    facts = {"network": [{"preset": "tin", **row}, {"preset": "pool", **row}]}
    facts["before"] = {"network": [{"preset": "tin", **row, "network_ms": 8.0}]}
    lines = _network(facts).splitlines()
    assert lines[-2].startswith("| tin | 3 | 0.500 | 8.00 | 5.33 | 6.00 | 0.750 | 2.00 | 1.33 |")
    assert lines[-1].startswith("| pool | 3 | 0.500 | - | - | - | - | 2.00 |")


def test_targets_are_ratios_within_the_run():
    row = {"preset": "tencent", "network_ms": 18.0, "backward_ms": 45.0, "attentions": 18, "plain_attention_ms": 0.5}
    cells = {"preset": "tencent", "C": 100, "p99_ms": 30.0, "control_naive_ms": 500.0, "control_shared_ms": 10.0}
    rows = [{**cells, "L": length, "p50_ms": p50} for length, p50 in ((1_000, 10.0), (10_000, 18.0), (100_000, 16.0))]
    found = find_targets(
        {"network": [row], "rows": rows, "real_search_ms": 2.0, "workers": {"ceiling": 1.7}, "workers_ratio": 1.6}
    )
    assert [(each["measured"], each["met"]) for each in found] == [
        (2.0, False),
        (2.5, True),
        (18.0, True),
        (30.0, True),
        (1.8, False),
        (pytest.approx(500 / 18), True),
        (1.6, False),
        (2.0, True),
        (1.6, False),
    ]


@pytest.mark.parametrize("asked", [{"only": ["nothing"]}, {"preset": ["nothing"]}])
def test_what_is_not_there_is_refused(asked):
    with pytest.raises(InputError, match="nothing"):
        bench_rank.rank(**asked)
