import json

import pytest
import torch

from scripts.bench.cost import command as cost
from scripts.bench.cost.blocks import linear_against_quadratic, longer_cache, longer_merge
from scripts.bench.cost.measure import activation_mib, count_flops
from scripts.bench.cost.world import make_batch, make_network


def test_flops_are_those_of_the_matrix_products():
    layer, x = torch.nn.Linear(30, 20, bias=False), torch.zeros(7, 30)
    assert count_flops(lambda: layer(x)) == 2 * 7 * 30 * 20


def test_activations_are_counted_once_each():
    x = torch.zeros(1 << 18, requires_grad=True)
    assert activation_mib(lambda: x * 2.0) == 0
    assert activation_mib(lambda: x * x) == pytest.approx(1)
    assert activation_mib(lambda: x.exp().exp()) == pytest.approx(2)


def test_a_request_gives_every_candidate_the_whole_history():
    batch = make_batch(40, 3)
    assert torch.bincount(batch.candidate_M).tolist() == [40, 40, 40]
    assert make_network("tin").eval()(batch).logit_BT.shape == (3, 2)


def test_a_request_may_give_every_candidate_a_list_of_its_own():
    batch = make_batch(40, 3, own=10)
    assert torch.bincount(batch.candidate_M).tolist() == [10, 10, 10]
    lists = batch.behavior_M.view(3, 10).tolist()
    assert all(sorted(set(rows)) == rows for rows in lists)
    assert len({tuple(rows) for rows in lists}) == 3


def test_the_sheet_has_every_case_and_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "LENGTHS", (20, 40))
    monkeypatch.setattr(cost, "CANDIDATES", (1, 5))
    monkeypatch.setattr(cost, "UNION", 50)
    monkeypatch.setattr(cost, "OWN", 10)
    cost.cost(tmp_path / "out.json", tmp_path / "out.md", 40, ["tin", "sasrec"])
    facts = json.loads((tmp_path / "out.json").read_text())
    cases = [(name, length, count) for name in ("tin", "sasrec") for length in (20, 40) for count in (1, 5)]
    assert [(row["preset"], row["L"], row["C"]) for row in facts["rows"]] == cases
    assert all(row["inference_ms"] > 0 and row["train_step_ms"] > 0 and row["mflops"] > 0 for row in facts["rows"])
    own = [(row["preset"], row["L"], row["own"], row["C"]) for row in facts["own_lists"]]
    assert own == [("tin", 50, 10, 5), ("sasrec", 50, 10, 5)]
    assert all(row["inference_ms"] > 0 and row["train_step_ms"] > 0 for row in facts["own_lists"])
    text = (tmp_path / "out.md").read_text()
    assert "| sasrec | 40 | - | 5 |" in text
    assert "| sasrec | 50 | 10 | 5 |" in text
    assert "## LONGER: merge against" in text


def test_what_is_said_to_save_is_compared_at_every_length():
    lengths = (16, 64)
    for rows in (longer_merge(lengths), longer_cache(lengths), linear_against_quadratic(lengths)):
        assert [row["L"] for row in rows] == [16, 64]
    flops = linear_against_quadratic(lengths)
    assert flops[1]["linear_flops"] < 4.5 * flops[0]["linear_flops"]
    assert flops[1]["quadratic_flops"] > 4.5 * flops[0]["quadratic_flops"]
