"""A training from files to a bundle: its calibration, what it records of where it comes from, and its evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from model_stage.bundle import load_bundle
from model_stage.cli import app
from model_stage.encoder import RequestEncoder
from model_stage.errors import ConfigError
from model_stage.ranker import Ranker
from model_stage.schema import Schema, load_yaml
from model_stage.training.history import HistoryReader
from model_stage.training.pipeline import ModelConfig, Recipe, train_bundle
from model_stage.types import RankRequest
from model_stage.vocabulary import TreeVocabulary, Vocabularies
from search_stage.searcher import Searcher
from store import BehaviorStore
from store.building.ingest import ingest
from store.types import parse_id
from tests.integration.world import AS_OF_MS, DAY_MS, candidates, write_dataset

ADS = ("a1", "a2", "a3", "c1")
FIRST_MS, CUT_MS = AS_OF_MS, AS_OF_MS + 5 * DAY_MS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Generated impressions: two thirds of the clicks are on tea; nobody buys."""
    folder = tmp_path_factory.mktemp("training") / "data"
    write_dataset(folder)
    draw = np.random.default_rng(0)
    lines = ["user,item,timestamp_ms,label_click,label_buy"]
    for day in range(15):
        for user in range(10):
            for name in ADS:
                click = int(draw.random() < (0.6 if name == "a1" else 0.1))
                lines.append(f"u{user},{name},{FIRST_MS + day * DAY_MS},{click},0")
    (folder / "impressions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits = {"validation_from_ms": CUT_MS, "test_from_ms": AS_OF_MS + 10 * DAY_MS}
    (folder / "splits.json").write_text(json.dumps(splits))
    ingest(folder, folder.parent / "store")
    return folder


def recipe(folder, schema, method="none", epochs=1, preset="tin"):
    folder.mkdir()
    (folder / "schema.yaml").write_text(schema)
    (folder / "targets.yaml").write_text("targets: [{name: click}, {name: buy}]")
    (folder / "train.yaml").write_text(
        f"{{train: {{max_epochs: {epochs}}}, calibration: {method}, network: {{preset: {preset}}}}}"
    )
    return Recipe.load(folder)


@pytest.mark.parametrize("method", ["platt", "isotonic", "none"])
def test_a_trained_bundle_is_calibrated_and_says_where_it_comes_from(data, tmp_path, method):
    asked = recipe(tmp_path / "config", "{attention_dim: 4, representation_dim: 4}", method, epochs=2)
    store, out = data.parent / "store", tmp_path / "bundles"
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        trained = train_bundle(asked, data, snapshot, Searcher(opened), out)
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
    assert f"{measured['logloss']:.5f} ({measured['logloss_uncalibrated']:.5f})" in result.output
    assert (measured["logloss"] != measured["logloss_uncalibrated"]) == (method != "none")


def test_an_unknown_method_is_refused_with_those_there_are(tmp_path):
    (tmp_path / "train.yaml").write_text("calibration: beta\n")
    with pytest.raises(ConfigError, match=r"train\.yaml: calibration: .*'none', 'platt' or 'isotonic' \(line 1\)"):
        load_yaml(tmp_path / "train.yaml", ModelConfig)


@pytest.fixture(scope="module")
def plain(data):
    """Root of a bundle without fields."""
    out = data.parent / "plain"
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        train_bundle(recipe(data.parent / "config", "{attention_dim: 4}"), data, snapshot, Searcher(opened), out)
    return out


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{attention_dim: 8}", "schema.yaml: attention_dim: 8, .* has 4"),
        ("{attention_dim: 4, behavior_fields: [action]}", r"schema.yaml: behavior_fields: \('action',\), "),
        (
            "{attention_dim: 4, fields: [{kind: categorical, part: candidate, name: brand}]}",
            "'brand' has no vocabulary in bundle .* none; train that bundle",
        ),
        (
            "{attention_dim: 4, fields: [{kind: numeric, part: candidate, name: brand}]}",
            "candidate field 'brand' is numeric, store .* holds ids",
        ),
    ],
)
def test_a_schema_that_does_not_fit_the_attention_table_or_the_store_is_refused(data, plain, tmp_path, schema, message):
    asked = recipe(tmp_path / "other", schema)
    with (
        BehaviorStore.open(data.parent / "store") as opened,
        opened.snapshot() as snapshot,
        pytest.raises(ConfigError, match=message),
    ):
        train_bundle(asked, data, snapshot, Searcher(opened), tmp_path, attention_from=plain)
    assert not (tmp_path / "CURRENT").exists()


def test_an_auxiliary_loss_trains_the_attention_table_and_stays_out_of_the_bundle(data, plain, tmp_path):
    asked = recipe(tmp_path / "config", "{attention_dim: 4}", preset="dare")
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        searcher = Searcher(opened)
        trained = train_bundle(asked, data, snapshot, searcher, tmp_path / "own")
        fixed = train_bundle(asked, data, snapshot, searcher, tmp_path / "fixed", attention_from=plain)
        bundle = load_bundle(tmp_path / "own")
        request = RankRequest(user=parse_id("u1"), as_of_ms=CUT_MS, candidates=candidates(*ADS))
        answer = Ranker(bundle, searcher).rank(request)
    (loss,) = trained.metrics["training"]["auxiliary_loss"]
    assert 0 < loss < 10
    assert fixed.metrics["training"]["auxiliary_loss"] == []  # it would teach nothing
    assert not [name for name in bundle.network.state_dict() if "auxiliary" in name]
    assert bundle.network_config.preset.auxiliary is not None
    assert ((answer.probability > 0.0) & (answer.probability < 1.0)).all()


def encoder_of(snapshot):
    taxonomy = snapshot.taxonomy
    vocabularies = Vocabularies(
        tree=TreeVocabulary.from_taxonomy(taxonomy, np.ones(taxonomy.num_nodes, np.bool_)),
        behavior_names={"domain": ("ads", "content"), "action": ("buy", "click")},
        categorical={},
        streams=(),
    )
    return RequestEncoder(Schema(attention_dim=4, behavior_fields=("domain", "action")), vocabularies)


def history_of(store, user, as_of_ms, newest=None):
    request = RankRequest(user=parse_id(user), as_of_ms=as_of_ms, candidates=candidates("a1"))
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        return HistoryReader(snapshot, encoder_of(snapshot), newest).read(request)


def test_a_history_ends_before_its_request(tmp_path):
    write_dataset(tmp_path / "data")
    ingest(tmp_path / "data", tmp_path / "clean")
    with (tmp_path / "data" / "behaviors.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"u1,t1,tea,ads,click,{AS_OF_MS + later}\n" for later in (0, 1, DAY_MS))
    ingest(tmp_path / "data", tmp_path / "planted")
    clean, planted = (history_of(tmp_path / name, "u1", AS_OF_MS) for name in ("clean", "planted"))
    later = history_of(tmp_path / "planted", "u1", AS_OF_MS + 1)
    newest = history_of(tmp_path / "planted", "u1", AS_OF_MS, 7)
    assert len(clean.node) == 40
    assert (clean.node > 0).all()
    assert (planted.interval_ms > 0).all()
    assert (np.diff(planted.interval_ms) < 0).all()
    assert (len(later.node), later.interval_ms[-1]) == (41, 1)  # what was planted is there, one millisecond on
    for column in ("node", "side", "interval_ms"):
        np.testing.assert_array_equal(getattr(planted, column), getattr(clean, column))
        np.testing.assert_array_equal(getattr(newest, column), getattr(clean, column)[-7:])
    assert len(history_of(tmp_path / "planted", "nobody", AS_OF_MS).node) == 0


def test_a_history_is_encoded_as_what_is_retrieved(data):
    request = RankRequest(user=parse_id("u1"), as_of_ms=CUT_MS, candidates=candidates(*ADS))
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        retrieved = encoder_of(snapshot).encode(request, Searcher(opened).search(request.query()))
    history = history_of(data.parent / "store", "u1", CUT_MS)
    at = {interval: row for row, interval in enumerate(history.interval_ms.tolist())}
    assert len(at) == len(history.node)
    rows = [at[interval] for interval in retrieved.interval_ms.tolist()]
    assert rows
    np.testing.assert_array_equal(history.node[rows], retrieved.behavior_node)
    np.testing.assert_array_equal(history.side[rows], retrieved.behavior_side)
