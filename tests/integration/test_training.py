"""A training from files to a bundle: its calibration, what it records of where it comes from, and its evaluation."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from model_stage.bundle import load_bundle, new_network
from model_stage.cli import app
from model_stage.cli.search import example_folder
from model_stage.config.schema import BucketedField, CategoricalField, Schema, load_yaml
from model_stage.encoding.ancestors import AncestorEncoder
from model_stage.encoding.encoder import RequestEncoder
from model_stage.encoding.vocabulary import TreeVocabulary, Vocabularies
from model_stage.errors import ConfigError
from model_stage.ranking.compatibility import NOTHING_ASKED
from model_stage.ranking.ranker import Ranker
from model_stage.reference import read_reference
from model_stage.training.history import Histories, HistoryReader
from model_stage.training.pipeline import ModelConfig, train_bundle
from model_stage.training.scoring import score_split
from model_stage.types import RankRequest
from search_stage.config import SearchConfig
from search_stage.searcher import Searcher
from store import BehaviorStore
from store.building.ingest import ingest
from store.errors import OutdatedGenerationError
from store.publishing.kept import kept_generations
from store.types import parse_id
from tests.worlds.living import count_lookups
from tests.worlds.services import AS_OF_MS, DAY_MS, candidates, write_dataset
from tests.worlds.training import ADS, CUT_MS, FIRST_MS, recipe, write_impressions


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Generated impressions: two thirds of the clicks are on tea; nobody buys."""
    return write_impressions(tmp_path_factory.mktemp("training") / "data")


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
    assert found.search == json.loads(SearchConfig.load().configuration)
    shown = CliRunner().invoke(app, ["bundle", "show", "--bundle", str(out)], env={"COLUMNS": "2000"}).output
    assert json.dumps(found.search) in shown
    kinds = {"platt": "platt", "isotonic": "isotonic", "none": "identity"}
    assert (bundle.calibration.kind("click"), bundle.calibration.kind("buy")) == (kinds[method], "identity")
    click = trained.metrics["validation"]["click"]
    if method == "none":
        assert (click["logloss"], click["ece"]) == (click["logloss_uncalibrated"], click["ece_uncalibrated"])
    else:
        assert click["logloss"] < click["logloss_uncalibrated"]
        assert click["ece"] < click["ece_uncalibrated"]
    assert bundle.metrics["validation"]["click"] == click
    window = read_reference(bundle.metrics)["click"]
    assert window.from_ms >= CUT_MS > found.train_until_ms
    assert window.positive_rate * window.rows == pytest.approx(click["positives"])
    if method == "platt":
        assert window.mean_probability == pytest.approx(window.positive_rate, rel=0.1)
    drift = max(value for moved in bundle.metrics["bfloat16_drift"].values() for value in moved.values())
    assert bundle.network.served_type is (torch.bfloat16 if drift <= 1e-4 else torch.float32)

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


class Silent:
    """A searcher that must not be asked about anybody; how it is configured it says."""

    def __init__(self, searcher):
        self.config, self.index_generation = searcher.config, searcher.index_generation
        self._searcher = searcher

    def search(self, request):
        if request is not NOTHING_ASKED:
            raise AttributeError("search: of somebody")
        return self._searcher.search(request)


def test_a_second_run_reads_the_examples_that_the_first_retrieved(data, tmp_path):
    first = recipe(tmp_path / "first", "{attention_dim: 4, representation_dim: 4}")
    other = recipe(tmp_path / "other", "{attention_dim: 4, representation_dim: 4}", preset="din_full")
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        searcher = Searcher(opened)
        silent = Silent(searcher)

        def train(asked, searcher, kept, out):
            kept = example_folder(tmp_path / kept if kept else None, searcher, None)
            train_bundle(asked, data, snapshot, searcher, tmp_path / out, examples=kept)
            return load_bundle(tmp_path / out)

        retrieved = train(first, searcher, "kept", "one")
        read = train(first, silent, "kept", "two")
        unkept = train(first, searcher, None, "three")
        train(other, silent, "kept", "four")  # another network reads the same examples
        with pytest.raises(AttributeError, match="search: of somebody"):
            train(first, silent, "elsewhere", "five")
        scored = [
            score_split(
                retrieved, data, "test", snapshot, asked, examples=example_folder(tmp_path / "kept", asked, None)
            )
            for asked in (searcher, silent)
        ]
        with pytest.raises(AttributeError, match="search: of somebody"):
            score_split(retrieved, data, "test", snapshot, silent)
    for bundle in (read, unkept):
        for name, weight in retrieved.network.state_dict().items():
            assert torch.equal(bundle.network.state_dict()[name], weight), name
    np.testing.assert_array_equal(scored[0].probability, scored[1].probability)
    assert not [path for path in (tmp_path / "three").iterdir() if path.name.startswith(".examples")]


def test_other_labels_are_other_examples(data, tmp_path):
    asked = recipe(tmp_path / "config", "{attention_dim: 4}")
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    lines = (copy / "impressions.csv").read_text().splitlines()
    lines[1] = lines[1].replace(",0,0,", ",1,0,") if ",0,0," in lines[1] else lines[1].replace(",1,0,", ",0,0,")
    (copy / "impressions.csv").write_text("\n".join(lines) + "\n")
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        searcher = Searcher(opened)
        for number, folder in enumerate((data, copy, data)):
            kept = example_folder(tmp_path / "kept", searcher, None)
            train_bundle(asked, folder, snapshot, searcher, tmp_path / f"out{number}", examples=kept)
    assert len(kept_generations(tmp_path / "kept" / "train")) == 2
    assert len(kept_generations(tmp_path / "kept" / "validation")) == 1


def test_examples_of_a_store_that_was_replaced_meanwhile_are_refused(data, tmp_path):
    class Renamed(Searcher):
        def search(self, request, deadline=None, request_id=""):
            return replace(super().search(request, deadline, request_id), store_generation="another")

    asked = recipe(tmp_path / "config", "{attention_dim: 4}")
    with (
        BehaviorStore.open(data.parent / "store") as opened,
        opened.snapshot() as snapshot,
        pytest.raises(OutdatedGenerationError, match=r"store another answered .* run this again"),
    ):
        train_bundle(asked, data, snapshot, Renamed(opened), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_method_is_refused_with_those_there_are(tmp_path):
    (tmp_path / "train.yaml").write_text("calibration: beta\n")
    with pytest.raises(ConfigError, match=r"train\.yaml: calibration: .*'none', 'platt' or 'isotonic' \(line 1\)"):
        load_yaml(tmp_path / "train.yaml", ModelConfig)


FIELDS = """
attention_dim: 4
fields:
- {{kind: categorical, part: candidate, name: brand, min_count: {min_count}}}
- {{kind: bucketed, part: candidate, name: price, buckets: 8}}
- {{kind: categorical, part: user, name: segment, rows: 7}}
- {{kind: multi_valued, part: candidate, name: tags, min_count: {min_count}}}
- {{kind: multi_valued, part: context, name: seen, rows: 9}}
"""


SIDE_INFO = """
attention_dim: 4
behavior_fields: [domain, device, {name}]
fields:
- {{kind: {kind}, part: behavior, name: device}}
- {{kind: bucketed, part: behavior, name: {name}, buckets: 3}}
"""


def test_side_info_of_behaviors_is_learned_from_those_of_the_training(data, tmp_path):
    """Phone, nothing and tv take turns; so do no star and 1 to 3 of them."""
    asked = recipe(tmp_path / "config", SIDE_INFO.format(kind="categorical", name="stars"))
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        train_bundle(asked, data, snapshot, Searcher(opened), tmp_path / "bundles")
        bundle = load_bundle(tmp_path / "bundles")
        ranker = Ranker.load(tmp_path / "bundles", Searcher(opened))
        explained = ranker.explain(RankRequest(user=parse_id("u1"), as_of_ms=AS_OF_MS, candidates=candidates("a1")))
        other = recipe(tmp_path / "other", SIDE_INFO.format(kind="categorical, rows: 9", name="stars"))
        with pytest.raises(ConfigError, match=r"'device' is not declared as in bundle .* table is kept"):
            train_bundle(
                other, data, snapshot, Searcher(opened), tmp_path / "next", attention_from=tmp_path / "bundles"
            )
    assert bundle.vocabularies.categorical["device"].tolist() == sorted(map(parse_id, ("phone", "tv")))
    assert bundle.vocabularies.boundaries["stars"].tolist() == [2, 3]
    made_of = (asked.schema, asked.targets, asked.model.network, bundle.vocabularies)
    untrained = new_network(*made_of, asked.model.train.seed)
    for ours, theirs in zip(bundle.network.representation.side, untrained.representation.side, strict=True):
        assert not torch.equal(ours.weight, theirs.weight)
    assert len(explained.behaviors) > 0


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "categorical",
            "size",
            r"'size' is bucketed, of numbers; .* have device \(ids\), stars \(numbers\)",
        ),
        (
            "bucketed",
            "stars",
            r"behavior field 'device' is bucketed, of numbers; .* device \(ids\), stars",
        ),
    ],
)
def test_side_info_that_the_store_has_not_is_refused(data, tmp_path, kind, name, message):
    asked = recipe(tmp_path / "config", SIDE_INFO.format(kind=kind, name=name))
    with (
        BehaviorStore.open(data.parent / "store") as opened,
        opened.snapshot() as snapshot,
        pytest.raises(ConfigError, match=message),
    ):
        train_bundle(asked, data, snapshot, Searcher(opened), tmp_path / "bundles")


@pytest.mark.parametrize("min_count", [1, 51])
def test_fields_learn_from_the_training_impressions_alone(data, tmp_path, min_count):
    """Each of the ads stands in 50 training impressions, three of them have a brand and a price; t1 is in none."""
    asked = recipe(tmp_path / "config", FIELDS.format(min_count=min_count))
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        train_bundle(asked, data, snapshot, Searcher(opened), tmp_path / "bundles")
    bundle = load_bundle(tmp_path / "bundles")
    known = {"leaf", "bean", "steel"} if min_count == 1 else set()
    assert set(bundle.vocabularies.categorical["brand"].tolist()) == {parse_id(name) for name in known}
    assert bundle.vocabularies.boundaries["price"].tolist() == [4], "19 is the price of an item that nobody was shown"
    brand, price, segment = (table.weight.detach() for table in bundle.network.categorical)
    assert bool(brand[1].any()) == (min_count == 51), "the out-of-vocabulary row is trained where ids are rare"
    assert bool(brand[0].any()), "a3 has no brand"
    assert (len(price), len(segment)) == (3, 8)
    often = {"hot", "new"} if min_count == 51 else {"hot", "new", "green", "black"}
    assert set(bundle.vocabularies.categorical["tags"].tolist()) == {parse_id(name) for name in often}
    untrained = new_network(
        asked.schema, asked.targets, asked.model.network, bundle.vocabularies, asked.model.train.seed
    )
    for table, before in zip(bundle.network.multi_valued, untrained.multi_valued, strict=True):
        moved = (table.weight != before.weight).any(1).tolist()
        assert moved == [False] + [True] * (len(moved) - 1), "every row but the one of no value"


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
            "{attention_dim: 4, fields: [{kind: numeric, part: candidate, name: brand}]}",
            "candidate field 'brand' is numeric, store .* holds ids",
        ),
        (
            "{attention_dim: 4, fields: [{kind: categorical, rows: 9, part: candidate, name: price}]}",
            "candidate field 'price' is categorical, store .* holds numbers",
        ),
        (
            "{attention_dim: 4, fields: [{kind: multi_valued, rows: 9, part: candidate, name: shop}]}",
            "candidate field 'shop' is multi_valued, store .* holds ids",
        ),
        (
            "{attention_dim: 4, fields: [{kind: categorical, rows: 9, part: context, name: seen}]}",
            "impressions column 'seen' holds lists of ids, a categorical field is of ids",
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


def test_a_kept_attention_table_goes_with_other_request_fields(data, plain, tmp_path):
    fields = "[{kind: categorical, part: candidate, name: brand}, {kind: bucketed, part: candidate, name: price}]"
    asked = recipe(tmp_path / "other", f"{{attention_dim: 4, fields: {fields}}}")
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        train_bundle(asked, data, snapshot, Searcher(opened), tmp_path / "out", attention_from=plain)
    kept, bundle = load_bundle(plain), load_bundle(tmp_path / "out")
    assert bundle.attention_model == kept.name
    for name, value in kept.network.attention.node.state_dict().items():
        assert torch.equal(value, bundle.network.attention.node.state_dict()[name])
    assert len(bundle.vocabularies.categorical["brand"])
    assert len(bundle.vocabularies.boundaries["price"])


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


def test_the_health_of_a_table_that_is_taken_over_is_against_its_own_start(data, tmp_path):
    asked = recipe(tmp_path / "config", "{attention_dim: 4, representation_dim: 4}")
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        searcher = Searcher(opened)
        own = train_bundle(asked, data, snapshot, searcher, tmp_path / "own")
        fixed = train_bundle(asked, data, snapshot, searcher, tmp_path / "fixed", attention_from=tmp_path / "own")
    (ours,), (theirs,) = (each.metrics["training"]["health"] for each in (own, fixed))
    assert ours["tables"]["attention.node.weight"] == theirs["tables"]["attention.node.weight"]
    assert ours["tables"]["attention.node.weight"]["norm_median"] != pytest.approx(1.0, abs=1e-6)
    assert load_bundle(tmp_path / "fixed").metrics["training"]["health"] == [theirs]


def encoder_of(snapshot):
    taxonomy = snapshot.taxonomy
    vocabularies = Vocabularies(
        tree=TreeVocabulary.from_taxonomy(taxonomy, np.ones(taxonomy.num_nodes, np.bool_)),
        behavior_names={"domain": ("ads", "content"), "action": ("buy", "click")},
        categorical={},
        streams=(),
        boundaries={"stars": np.array([2, 3], np.float32)},
    )
    schema = Schema(
        attention_dim=4,
        behavior_fields=("domain", "action", "device", "stars"),
        fields=(
            CategoricalField(kind="categorical", name="device", part="behavior", rows=11),
            BucketedField(kind="bucketed", name="stars", part="behavior"),
        ),
    )
    return RequestEncoder(schema, vocabularies)


def history_of(store, user, as_of_ms, newest=None):
    """Gives the history of a request, which another one of the same user follows."""
    request = RankRequest(user=parse_id(user), as_of_ms=as_of_ms, candidates=candidates("a1"))
    times = np.array([as_of_ms, as_of_ms + DAY_MS * 1000])
    asked = SimpleNamespace(user=np.full(2, request.user, np.uint64), timestamp_ms=times)
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        encoder = AncestorEncoder(encoder_of(snapshot), Searcher(opened))
        reader = HistoryReader(snapshot=snapshot, encoder=encoder, newest=newest)
        (rows,) = reader.users(asked)
        return Histories.of([reader.span(request)], rows).take(np.array([0]))


def test_a_history_ends_before_its_request(tmp_path):
    write_dataset(tmp_path / "data")
    ingest(tmp_path / "data", tmp_path / "clean")
    with (tmp_path / "data" / "behaviors.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"u1,t1,tea,ads,click,{AS_OF_MS + later},tv,5\n" for later in (0, 1, DAY_MS))
    ingest(tmp_path / "data", tmp_path / "planted")
    clean, planted = (history_of(tmp_path / name, "u1", AS_OF_MS) for name in ("clean", "planted"))
    later = history_of(tmp_path / "planted", "u1", AS_OF_MS + 1)
    newest = history_of(tmp_path / "planted", "u1", AS_OF_MS, 7)
    assert len(clean.rows) == 40
    assert (clean.rows.node > 0).all()
    assert [len(np.unique(column)) for column in clean.rows.side.T] == [2, 2, 3, 4]
    assert (planted.interval_ms > 0).all()
    assert (np.diff(planted.interval_ms) < 0).all()
    assert (len(later.rows), later.interval_ms[-1]) == (41, 1)  # what was planted is there, one millisecond on
    for column in ("node", "side", "timestamp_ms"):
        np.testing.assert_array_equal(getattr(planted.rows, column), getattr(clean.rows, column))
        np.testing.assert_array_equal(getattr(newest.rows, column), getattr(clean.rows, column)[-7:])
    assert len(history_of(tmp_path / "planted", "nobody", AS_OF_MS).rows) == 0


def test_the_past_of_a_user_is_read_and_decoded_once(data, monkeypatch):
    asked = SimpleNamespace(user=np.full(3, parse_id("u1"), np.uint64), timestamp_ms=np.full(3, CUT_MS))
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        encoder = AncestorEncoder(encoder_of(snapshot), Searcher(opened))
        reader = HistoryReader(snapshot=snapshot, encoder=encoder)
        counts = count_lookups(monkeypatch)
        (rows,) = reader.users(asked)
        assert len(rows) > 7
    assert counts == {"record": 1, "decode_user": 1, "decode_extras": 1}


def test_a_history_is_encoded_as_what_is_retrieved(data):
    request = RankRequest(user=parse_id("u1"), as_of_ms=CUT_MS, candidates=candidates(*ADS))
    with BehaviorStore.open(data.parent / "store") as opened, opened.snapshot() as snapshot:
        encoder = encoder_of(snapshot)
        found = Searcher(opened).search(request.query(behavior_fields=encoder.side_info))
        retrieved = encoder.encode(request, found)
    history = history_of(data.parent / "store", "u1", CUT_MS)
    at = {interval: row for row, interval in enumerate(history.interval_ms.tolist())}
    assert len(at) == len(history.rows)
    rows = [at[interval] for interval in retrieved.interval_ms.tolist()]
    assert rows
    np.testing.assert_array_equal(history.rows.node[rows], retrieved.behavior_node)
    np.testing.assert_array_equal(history.rows.side[rows], retrieved.behavior_side)
