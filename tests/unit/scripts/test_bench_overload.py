"""Orders of waiting, on the requests of a few simulated seconds."""

from __future__ import annotations

import json

import pytest

from scripts.bench.overload.command import LOADS, overload
from scripts.bench.overload.orders import ORDERS, compare_orders


def test_the_order_that_is_kept_answers_most_in_time_and_refuses_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.bench.overload.command.measure_batching", lambda: [])
    overload(seconds=10, seed=3, json_file=tmp_path / "overload.json")
    rows = json.loads((tmp_path / "overload.json").read_text())["orders"]
    assert len(rows) == len(LOADS) * len(ORDERS)
    at = {(row["order"], row["load"]): row for row in rows}
    for load in (1.0, 1.5, 3.0, 6.0):
        kept, newest, before = (at[order, load] for order in ORDERS)
        assert kept["goodput"] > newest["goodput"] > before["goodput"]
        assert kept["refused_p99_ms"] < 50
        assert kept["late"] < 0.05
    assert at["first come, no estimate", 3.0]["refused_p99_ms"] > 50


def test_without_a_line_the_orders_are_alike():
    kept, newest, before = (row["goodput"] for row in compare_orders([0.1], 10, 3))
    assert kept == pytest.approx(newest, abs=0.002) == before
