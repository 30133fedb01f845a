"""A training from files to a bundle: its calibration, what it records of where it comes from, and its evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from model_stage.bundle import load_bundle
from model_stage.cli import app
from model_stage.errors import ConfigError
from model_stage.schema import load_yaml
from model_stage.training.pipeline import ModelConfig, Recipe, train_bundle
from search_stage.searcher import Searcher
from store import BehaviorStore
from store.building.ingest import ingest
from tests.integration.world import AS_OF_MS, DAY_MS, write_dataset

ADS = ("a1", "a2", "a3", "c1")
FIRST_MS, CUT_MS = AS_OF_MS, AS_OF_MS + 10 * DAY_MS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Generated impressions: two thirds of the clicks are on tea; nobody buys."""
    folder = tmp_path_factory.mktemp("training") / "data"
    write_dataset(folder)
    draw = np.random.default_rng(0)
    lines = ["user,item,timestamp_ms,label_click,label_buy"]
    for day in range(30):
        for user in range(10):
            for name in ADS:
                click = int(draw.random() < (0.6 if name == "a1" else 0.1))
                lines.append(f"u{user},{name},{FIRST_MS + day * DAY_MS},{click},0")
    (folder / "impressions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits = {"validation_from_ms": CUT_MS, "test_from_ms": AS_OF_MS + 20 * DAY_MS}
    (folder / "splits.json").write_text(json.dumps(splits))
    ingest(folder, folder.parent / "store")
    return folder


@pytest.mark.parametrize("method", ["platt", "isotonic", "none"])
def test_a_trained_bundle_is_calibrated_and_says_where_it_comes_from(data, tmp_path, method):
    config = tmp_path / "config"
    config.mkdir()
    (config / "schema.yaml").write_text("{attention_dim: 4, representation_dim: 4}")
    (config / "targets.yaml").write_text("targets: [{name: click}, {name: buy}]")
    (config / "train.yaml").write_text(f"{{train: {{max_epochs: 2}}, calibration: {method}}}")
    store, out = data.parent / "store", tmp_path / "bundles"
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        trained = train_bundle(Recipe.load(config), data, snapshot, Searcher(opened), out)
        generation, taxonomy = snapshot.generation, snapshot.meta.taxonomy_fingerprint
    bundle = load_bundle(out)
    found = bundle.provenance
    assert (found.train_from_ms, found.train_until_ms) == (FIRST_MS, CUT_MS - DAY_MS)
    assert (found.store_generation, found.taxonomy_fingerprint, found.attention_from) == (generation, taxonomy, "")
    kinds = {"platt": "platt", "isotonic": "isotonic", "none": "identity"}
    assert (bundle.calibration.kind("click"), bundle.calibration.kind("buy")) == (kinds[method], "identity")
    click = trained.metrics["validation"]["click"]
    if method == "none":
        assert (click["logloss"], click["ece"]) == (click["logloss_uncalibrated"], click["ece_uncalibrated"])
    else:
        assert click["logloss"] < click["logloss_uncalibrated"]
        assert click["ece"] < click["ece_uncalibrated"]
    assert bundle.metrics["validation"]["click"] == click

    result = CliRunner().invoke(
        app,
        [
            "evaluate",
            "--data",
            str(data),
            "--store",
            str(store),
            "--bundle",
            str(out),
            "--json",
            str(tmp_path / "e.json"),
        ],
        env={"COLUMNS": "200"},
    )
    assert result.exit_code == 0, result.output
    measured = json.loads((tmp_path / "e.json").read_text())["metrics"]["click"]
    assert f"{measured['logloss']:.4f} ({measured['logloss_uncalibrated']:.4f})" in result.output
    assert (measured["logloss"] != measured["logloss_uncalibrated"]) == (method != "none")


def test_an_unknown_method_is_refused_with_those_there_are(tmp_path):
    (tmp_path / "train.yaml").write_text("calibration: beta\n")
    with pytest.raises(ConfigError, match=r"train\.yaml: calibration: .*'none', 'platt' or 'isotonic' \(line 1\)"):
        load_yaml(tmp_path / "train.yaml", ModelConfig)
