"""Curves of learned positions: what TIN's own tables say, for any network, as tables, JSON and a picture."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model_stage.blocks.position import position_buckets
from model_stage.blocks.tin import TIN
from model_stage.config.targets import CalendarPosition, IntervalPosition, MatchLevelPosition, RankPosition, Target
from model_stage.inspection.positions import MAX_CATEGORIES, grids_of, learned
from store.types import DAY_MS
from tests.worlds.bundles import TARGETS, opened, publish


def from_tables(bundle, grid, block_at):
    """The share by TIN's formula, from its tables: sigmoid(<q, p(x) - p(x0)> / sqrt(d)), mean over the categories."""
    block = [module for module in bundle.network.modules() if isinstance(module, TIN)][block_at]
    target = bundle.targets.targets[block_at]
    rows = torch.from_numpy(bundle.vocabularies.tree.categories.rows)
    assert len(rows) <= MAX_CATEGORIES
    query_CA = bundle.network.attention.nodes(rows) + block.attention_positions.candidate_row
    x = torch.tensor(grid.x, dtype=torch.float64)
    nothing = torch.zeros(len(x), dtype=torch.int64)
    score_CG = torch.zeros(len(rows), len(x))
    for position, table_NA in zip(target.positions, block.attention_positions.rows, strict=True):
        week = 7 * DAY_MS if grid.name.startswith("calendar") else 0
        ages = (x * DAY_MS).round().to(torch.int64) + week if grid.unit != "levels climbed" else nothing + DAY_MS
        intervals = nothing + DAY_MS if grid.name == "rank" else ages
        columns = {
            "rank": x.to(torch.int64) if grid.name == "rank" else nothing + 2,
            "interval": intervals,
            "calendar": intervals,
            "match_level": x.to(torch.int64) if grid.name == "match_level" else nothing,
        }
        score_CG = score_CG + query_CA @ table_NA[position_buckets(position, columns[position.kind])].T / math.sqrt(
            query_CA.shape[1]
        )
    relative_CG = score_CG - score_CG[:, grid.reference, None]
    return torch.sigmoid(relative_CG).mean(0).detach().numpy()


def test_the_share_is_what_tins_tables_say(tmp_path):
    bundle = opened(tmp_path)
    curves = learned(bundle, grids_of(TARGETS.targets), bundle.targets.names)
    assert [(each.grid.name, list(each.share)) for each in curves] == [
        ("calendar:week", ["buy"]),
        ("interval", ["click"]),
        ("match_level", ["click"]),
        ("rank", ["buy"]),
    ]
    for each in curves:
        target = next(iter(each.share))
        share = np.array(each.share[target])
        np.testing.assert_allclose(share, from_tables(bundle, each.grid, bundle.targets.names.index(target)), atol=1e-5)
        assert share[each.grid.reference] == pytest.approx(0.5)
        assert np.ptp(share) > 0.01


def test_tables_that_say_nothing_give_a_level_curve(tmp_path):
    for each in learned(opened(tmp_path, spread=0.0), grids_of(TARGETS.targets), ("click", "buy")):
        for share in each.share.values():
            np.testing.assert_allclose(share, 0.5, atol=1e-6)


def test_a_grid_spans_what_all_targets_of_a_kind_encode():
    targets = [
        Target(
            name="a", positions=(IntervalPosition(kind="interval", span_days=10), RankPosition(kind="rank", buckets=3))
        ),
        Target(name="b", positions=(IntervalPosition(kind="interval", span_days=90),)),
        Target(name="c", positions=(CalendarPosition(kind="calendar", period="day", buckets=4),)),
        Target(name="d", positions=(MatchLevelPosition(kind="match_level", levels=2),)),
    ]
    grids = {grid.name: grid for grid in grids_of(targets)}
    assert grids["interval"].x[-1] == pytest.approx(90)
    assert grids["interval"].labels[grids["interval"].reference] in ("1.0 d", "23.5 h", "1.2 d", "20.6 h")
    assert grids["rank"].x == (1, 2, 3)
    assert len(grids["calendar:day"].x) == 8
    assert grids["match_level"].labels == ("0", "1", "not found")


def test_show_prints_writes_and_draws_two_bundles(run, tmp_path):
    one, other = publish(tmp_path / "one"), publish(tmp_path / "other", seed=1)
    code, out, _ = run(
        *("targets", "show", "--bundle", tmp_path / "one", "--against", tmp_path / "other"),
        *("--target", "click", "--json", tmp_path / "p.json", "--plot", tmp_path / "p.png"),
    )
    assert code == 0
    found = json.loads((tmp_path / "p.json").read_text())
    assert (found["bundle"], found["against"]) == (one, other)
    assert {each["grid"]["name"] for each in found["curves"]} == {"interval", "match_level"}
    left, right = (found[key][1]["share"]["click"] for key in ("curves", "against_curves"))
    assert f"{left[1]:.3f} ({right[1] - left[1]:+.3f})" in out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_target_is_refused_with_those_there_are(run, tmp_path):
    publish(tmp_path)
    code, _, err = run("targets", "show", "--bundle", tmp_path, "--target", "sale")
    assert code == 2
    assert "'sale' is none of click, buy" in err


class HalfBlind(torch.nn.Module):
    """Gives each pair exp(-rank / 2), nothing where it is blind."""

    def __init__(self, blind):
        super().__init__()
        self.blind = blind

    def forward(self, batch):
        weight_M = torch.exp(-batch.rank_M.double() / 2) * ~self.blind(batch.candidate_M)
        weight_MT = torch.stack([weight_M, weight_M], dim=1)
        return SimpleNamespace(weight_MT=weight_MT)


def test_candidates_without_attention_do_not_count_and_weights_need_not_sum_to_one(tmp_path):
    bundle = opened(tmp_path)
    grids = [grid for grid in grids_of(TARGETS.targets) if grid.name == "rank"]
    half = dataclasses.replace(bundle, network=HalfBlind(lambda candidate_M: candidate_M % 2 == 1))
    (found,) = learned(half, grids, ("buy",))
    rank = np.arange(1, 6)
    np.testing.assert_allclose(found.share["buy"], 1 / (1 + np.exp((rank - 1) / 2)), atol=1e-9)
    none = dataclasses.replace(bundle, network=HalfBlind(lambda candidate_M: candidate_M >= 0))
    assert np.isnan(learned(none, grids, ("buy",))[0].share["buy"]).all()
