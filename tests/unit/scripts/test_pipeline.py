"""The offline job: from a dataset directory to everything that is served, and again."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import pytest

from model_stage.networks.preset import load_preset, preset_names
from model_stage.training.impressions import SPLITS
from model_stage.training.pipeline import Recipe
from scripts.generate.dataset import Settings, generate
from scripts.pipeline import CONFIGS, main, teaching_attention
from store.command import command_line, run
from store.publishing.generation import current_name
from store.publishing.kept import kept_generations


@pytest.mark.parametrize("name", preset_names())
def test_the_first_pass_teaches_the_attention_table(name):
    recipe = Recipe.load(CONFIGS / "generated")
    preset = load_preset(name)
    network = recipe.model.network.model_copy(update={"preset": preset})
    recipe = replace(recipe, model=recipe.model.model_copy(update={"network": network}))
    first = teaching_attention(recipe).model.network
    assert first.preset == (preset if preset.reads_attention else load_preset("tin"))
    assert first.model_copy(update={"preset": preset}) == network


def run_job(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run(command_line(None, main))
    return ended.value.code or 0


def test_the_job_publishes_everything_and_again_beside_it(tmp_path, monkeypatch, capsys):
    generate(Settings(seed=1, users=20, mean_behaviors=40, requests=60, candidates=(6, 9)), tmp_path / "data")
    shutil.copytree(CONFIGS / "generated", tmp_path / "config")
    (tmp_path / "config" / "train.yaml").write_text("train: {max_epochs: 1, batch_candidates: 128}\n")
    asked = ("--data", tmp_path / "data", "--config", tmp_path / "config", "--work", tmp_path / "work")
    roots = {"store": "store", "attention": "bundle", "index": "index", "bundles": "bundle"}
    names, metrics = [], []
    for number in range(2):
        json_file = tmp_path / f"{number}.json"
        assert run_job(monkeypatch, *asked, "--json", json_file) == 0
        out = capsys.readouterr().out
        written = json.loads(json_file.read_text())
        names.append({name: current_name(tmp_path / "work" / name, kind) for name, kind in roots.items()})
        metrics.append(written["metrics"])
        assert written["bundle"] == names[-1]["bundles"]
        assert f"bundle {written['bundle']} under" in out
        for target, numbers in written["metrics"].items():
            assert target in out
            assert f"{numbers['logloss']:.5f}" in out
    assert all(names[0][name] != names[1][name] for name in roots)
    assert metrics[0] == metrics[1]
    sets = {split: len(kept_generations(tmp_path / "work" / "examples" / split)) for split in SPLITS}
    assert sets == {"train": 2, "validation": 2, "test": 1}, "one a pass: the second job reads those of the first"


def test_what_is_missing_is_named_before_any_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "config").mkdir()
    asked = ("--data", tmp_path / "data", "--work", tmp_path / "work", "--config")
    assert run_job(monkeypatch, *asked, tmp_path / "config") == 2
    assert "schema.yaml" in capsys.readouterr().err
    assert run_job(monkeypatch, *asked, CONFIGS / "generated", "--json", tmp_path / "no" / "x.json") == 2
    assert "--json" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
