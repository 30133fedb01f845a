"""Recording and replaying on a small generated world, and the cost of what is done beside the answers."""

from __future__ import annotations

import json

import pytest

from scripts.bench.rank import world as rank_world
from scripts.bench.served import command as bench_served
from scripts.record import main as record
from store import BehaviorStore
from store.errors import InputError
from store.publishing.kept import kept_generations
from tests.worlds.services import make_world


def test_a_recording_with_live_events_and_a_rebuild_is_replayed_without_a_difference(tmp_path):
    world = make_world(tmp_path)
    world.bundle.rename(tmp_path / "bundles")
    rows = [f"u{user},{item},{1_700_000_000_000 + user},12" for user in range(8) for item in ("a1", "c1", "s1")]
    (tmp_path / "data" / "impressions.csv").write_text("user,item,timestamp_ms,hour\n" + "\n".join(rows) + "\n")
    config = tmp_path / "config"
    config.mkdir()
    (config / "schema.yaml").write_text("{}")
    (config / "search.yaml").write_text("{}")
    before = kept_generations(world.store)
    with pytest.raises(SystemExit) as ended:
        record(
            tmp_path,
            requests=60,
            candidates=2,
            append_every=3,
            callers=2,
            processes=1,
            config=config,
            json_file=tmp_path / "out.json",
        )
    assert ended.value.code == 0
    facts = json.loads((tmp_path / "out.json").read_text())
    assert (facts["answered"], facts["degraded"], facts["appended"]) == (60, 0, 20)
    replayed = facts["replay"]
    assert (replayed["num_replayed"], replayed["num_different"], replayed["num_unreachable"]) == (60, 0, 0)
    assert replayed["num_live"] > 0
    assert kept_generations(world.store) == before  # what was appended went to a copy
    with BehaviorStore.open(world.store) as store, store.snapshot() as snapshot:
        assert snapshot.delta_sequence == 0


def test_a_folder_without_its_configuration_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^--config: .*has no schema\.yaml"):
        record(tmp_path)


def test_the_cost_of_what_is_done_beside_is_measured_in_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_served, "LENGTHS", (50,))
    monkeypatch.setattr(bench_served, "CANDIDATES", 5)
    monkeypatch.setattr(bench_served, "ITEMS", 500)
    monkeypatch.setattr(bench_served, "CALLS", 3)
    monkeypatch.setattr(bench_served, "WAYS", (bench_served.PLAIN, bench_served.LOG))
    monkeypatch.setattr(bench_served, "PRESET", "popularity")
    monkeypatch.setattr(rank_world, "CATEGORIES", 5)
    bench_served.served(tmp_path / "out.json", tmp_path / "out.md", 2)
    facts = json.loads((tmp_path / "out.json").read_text())
    rows = {row["beside"]: row for row in facts["rows"]}
    assert tuple(rows) == bench_served.WAYS
    assert all(row["calls"] == 4 and 0 < row["p50_ms"] <= row["p99_ms"] for row in rows.values())
    (target,) = facts["targets"]
    assert target["measured"] == rows[bench_served.LOG]["ratio"]
    assert "| log, 0.01 |" in (tmp_path / "out.md").read_text()
