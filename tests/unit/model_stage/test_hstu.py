"""HSTU: the paper's formulas in NumPy, causality, and the buckets of time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from model_stage.blocks import hstu
from model_stage.blocks.hstu import HSTU, HSTUConfig, interval_buckets
from model_stage.blocks.ragged import Layout
from model_stage.config.targets import IntervalPosition
from tests.worlds.list_blocks import DIM, MINUTE_MS, make_lists

OPTIONS = {"kind": "hstu", "scope": "list", "heads": 2, "layers": 2, "scale_length": 3}
DAY_MS = 24 * 60 * MINUTE_MS


def make_block(**options):
    torch.manual_seed(0)
    block = HSTU(DIM, HSTUConfig(**{**OPTIONS, **options}))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def test_equals_an_independent_numpy_implementation_of_the_paper():
    """The history of four with the candidate behind it, one layer, two heads."""
    block, x = make_block(layers=1), make_lists([4], [0]).x
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in block.named_parameters()}

    def norm(rows, name, eps):
        centred = rows - rows.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + eps)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def silu(values):
        return values / (1 + np.exp(-values))

    rows = np.vstack([x.values_ND.detach().numpy(), x.candidate_BD.detach().numpy()])
    projected = norm(rows, "layers.0.norm_in", 1e-6) @ weights["layers.0.project_in.weight"].T
    gate, value, query, key = np.split(silu(projected + weights["layers.0.project_in.bias"]), 4, axis=1)
    time = np.append(-x.interval_ms_N.numpy(), 0)
    attended = np.zeros((5, DIM))
    for head in range(2):
        columns = slice(2 * head, 2 * head + 2)
        for i in range(5):
            for j in range(i + 1):
                minutes = (time[i] - time[j]) / MINUTE_MS
                bucket = int(np.log1p(minutes) / np.log1p(365 * 24 * 60) * 32)
                rab = weights["layers.0.rank_bias"][i - j, head] + weights["layers.0.interval_bias"][bucket, head]
                weight = silu(query[i, columns] @ key[j, columns] + rab) / 3
                attended[i, columns] += weight * value[j, columns]
    out = norm(attended, "layers.0.norm_out", 1e-6) * gate
    rows = rows + out @ weights["layers.0.project_out.weight"].T + weights["layers.0.project_out.bias"]
    expected = norm(rows, "norm", 1e-5)[-1]
    np.testing.assert_allclose(block(x).representation_BD[0].detach().numpy(), expected, atol=1e-5)


def test_a_planted_future_row_changes_nothing_before_it():
    """What candidates read of every row, in every layer: only the planted row and those after it may change."""
    block, x = make_block(layers=3), make_lists([6], [0]).x
    planted_ND = x.values_ND.detach().clone()
    planted_ND[4] += 100.0
    planted = replace(x, values_ND=planted_ND)
    (bucket,) = Layout.of(x.offsets, x.list_B).buckets
    for before, after in zip(block.rows(x, bucket), block.rows(planted, bucket), strict=True):
        changed_T = (before.key != after.key).flatten(2).any(2)[0]
        assert changed_T[:4].tolist() == [False] * 4
        assert changed_T[4]


def test_interval_buckets_are_monotone_from_a_minute_to_the_span():
    position = IntervalPosition(kind="interval", buckets=10, span_days=365)
    deltas = [-5, 0, 1, MINUTE_MS, DAY_MS // 24, DAY_MS, 30 * DAY_MS, 365 * DAY_MS - 1, 4000 * DAY_MS]
    found = interval_buckets(position, torch.tensor(deltas)).tolist()
    assert found == sorted(found)
    assert found[:3] == [0, 0, 0]
    assert found[-2:] == [9, 9]
    assert len(set(found)) >= 5


def test_rows_formed_a_few_at_a_time_are_the_same(monkeypatch):
    block, x = make_block(layers=2), make_lists([7, 0, 4], [0, 1, 2, 0]).x
    expected = block(x)
    monkeypatch.setattr(hstu, "ROWS_AT_ONCE", 2)
    torch.testing.assert_close(block(x).representation_BD, expected.representation_BD, rtol=1e-5, atol=1e-5)


def test_intensity_survives():
    """Three equal rows weigh three times as much as one, where a softmax would share."""
    block, x = make_block(layers=1), make_lists([3], [0]).x
    nn.init.zeros_(block.layers[0].rank_bias)
    three = replace(x, values_ND=x.values_ND[:1].expand(3, -1), interval_ms_N=torch.ones(3, dtype=torch.int64))
    one = replace(three, values_ND=x.values_ND[:1], interval_ms_N=three.interval_ms_N[:1], offsets=torch.tensor([0, 1]))
    found, single = block(three), block(one)
    torch.testing.assert_close(found.weight_M, single.weight_M.expand(3))
    torch.testing.assert_close(found.rest_B, single.rest_B)


@pytest.mark.parametrize("options", [{"heads": 3}, {"heads": 0}, {"layers": 0}, {"scale_length": 0}])
def test_config_names_what_is_wrong(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        HSTU(DIM, HSTUConfig(**{**OPTIONS, **options}))
