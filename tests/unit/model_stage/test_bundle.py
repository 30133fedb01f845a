"""Bundles: what is saved comes back, and whatever is damaged or does not fit is refused by name."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file

from model_stage.bundle import Provenance, load_bundle
from model_stage.errors import BundleError, BundleMismatchError, SearchUnavailableError
from model_stage.evaluation.health import AttentionHealth, TableHealth
from model_stage.inspection.diff import differences
from model_stage.inspection.synthetic_request import sample_categories, synthetic_request
from model_stage.inspection.verify import verify_bundle
from model_stage.ranking.compatibility import check_compatible, check_retriever
from model_stage.training.health import Health
from store.errors import GenerationError
from tests.worlds.bundles import SCHEMA, edited, opened, publish


def test_a_bundle_comes_back_as_it_was_saved(tmp_path):
    bundle = opened(tmp_path, seed=3)
    assert bundle.provenance.model_dump(exclude={"schema_sha256"}) == {
        "store_generation": "s",
        "taxonomy_fingerprint": "t",
        "attention_from": "",
        "train_from_ms": 0,
        "train_until_ms": 86_400_000,
        "search": {},
    }
    assert len(bundle.provenance.schema_sha256) == 64
    assert bundle.attention_model == bundle.name
    assert bundle.calibration.kind("click") == "platt"
    again = load_bundle(tmp_path)
    for name, tensor in bundle.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)


def test_bundles_of_before_have_no_calibration_and_less_provenance(tmp_path):
    publish(tmp_path)

    def before(path, meta):
        (path / "calibration.json").unlink()
        (path / "served.safetensors").unlink()
        meta.clear()
        meta.update(store_generation="s", attention_from="")

    bundle = load_bundle(tmp_path, edited(tmp_path, before))
    assert bundle.calibration.by_target == {}
    assert bundle.provenance == Provenance(store_generation="s")
    assert bundle.network.served_type is torch.float32
    assert "served vectors" not in dict(verify_bundle(tmp_path))


def test_the_schemas_hash_is_of_what_it_says_and_not_of_its_layout(tmp_path):
    publish(tmp_path)

    def rewritten(path, meta):
        content = yaml.safe_load((path / "schema.yaml").read_text())
        (path / "schema.yaml").write_text("# by hand\n" + yaml.safe_dump(content, sort_keys=True))

    load_bundle(tmp_path, edited(tmp_path, rewritten))

    def changed(path, meta):
        content = yaml.safe_load((path / "schema.yaml").read_text())
        (path / "schema.yaml").write_text(yaml.safe_dump({**content, "item_min_count": 9}))

    with pytest.raises(
        BundleError, match=r"schema\.yaml: is not the schema .* sha256 is \w{64}, .*train the bundle anew"
    ):
        load_bundle(tmp_path, edited(tmp_path, changed))


FILES = (
    "attention.safetensors",
    "calibration.json",
    "metrics.json",
    "network.yaml",
    "schema.yaml",
    "served.safetensors",
    "targets.yaml",
    "vocabulary.json",
    "vocabulary.safetensors",
    "weights.safetensors",
)


def test_verify_says_what_it_checked(run, tmp_path):
    name = publish(tmp_path)
    code, out, _ = run("bundle", "verify", "--bundle", tmp_path)
    assert code == 0
    assert "10 files" in out
    assert "1 items and 4 categories" in out
    assert "the bundle is sound" in out
    listed = json.loads((tmp_path / "generations" / name / "manifest.json").read_text())["files"]
    assert sorted(listed) == sorted(FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_and_a_missing_file_end_verify_with_status_1(run, tmp_path, file):
    path = tmp_path / "generations" / publish(tmp_path) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, _, err = run("bundle", "verify", "--bundle", tmp_path)
    assert (code, str(path) in err, "sha256" in err) == (1, True, True)
    with pytest.raises(GenerationError):
        load_bundle(tmp_path)
    path.unlink()
    code, _, err = run("bundle", "verify", "--bundle", tmp_path)
    assert (code, str(path) in err, "no such file" in err) == (1, True, True)


def _tensor(file, name, change):
    def edit(path, meta):
        arrays = load_file(path / file)
        arrays[name] = change(arrays[name])
        save_file(arrays, path / file)

    return edit


def _with_nan(array):
    array = array.copy()
    array.flat[0] = np.nan
    return array


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_tensor("weights.safetensors", "dense_scale", _with_nan), "weights.*dense_scale holds .* not finite"),
        (_tensor("weights.safetensors", "dense_scale", lambda a: a[:-1].copy()), "(?s)do not fit.*dense_scale"),
        (_tensor("attention.safetensors", "item_vectors", lambda a: a + 1), "item_vectors is not what weights"),
        (_tensor("served.safetensors", "representation", lambda a: a + 1), "representation is not what weights"),
        (
            _tensor("served.safetensors", "attention", lambda a: a[1:].copy()),
            r"do not fit.*attention: vectors of shape \(5, 4\) for a table of shape \(6, 4\)",
        ),
        (
            _tensor("attention.safetensors", "item_vectors", lambda a: a[:, :2].copy()),
            "item_vectors: a tensor of shape",
        ),
        (
            lambda path, meta: (path / "weights.safetensors").write_bytes(b"junk"),
            "weights.safetensors: is no safetensors",
        ),
        (lambda path, meta: (path / "targets.yaml").write_text("targets: 3"), r"targets\.yaml: targets: .*anew"),
        (lambda path, meta: (path / "calibration.json").write_text("[]"), r"calibration\.json: the file"),
        (lambda path, meta: meta.update(train_from_ms="soon"), r"manifest\.json: meta\.train_from_ms: .*integer"),
    ],
)
def test_whole_files_that_cannot_be_served_are_refused_by_name(tmp_path, edit, message):
    publish(tmp_path)
    with pytest.raises(BundleError, match=message):
        list(verify_bundle(tmp_path, edited(tmp_path, edit)))


def test_show_says_what_a_bundle_is_as_tables_and_json(run, tmp_path):
    name = publish(tmp_path / "bundles")
    code, out, _ = run("bundle", "show", "--bundle", tmp_path / "bundles", "--json", tmp_path / "facts.json")
    assert code == 0
    for text in (
        name,
        "candidate brand (categorical, 4 rows)",
        "1970-01-01 00:00:00 UTC to 1970-01-02",
        "platt",
        "logloss",
        "vectors served as",
        "float32",
    ):
        assert text in out
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert sorted(facts["files"]) == sorted(FILES)
    assert facts["provenance"]["store_generation"] == "s"
    assert facts["calibration"] == {"click": "platt", "buy": "identity"}
    weights = opened(tmp_path / "bundles").network
    assert sum(facts["parameters"].values()) == sum(p.numel() for p in weights.parameters())


def test_show_prints_the_health_of_the_epoch_that_was_kept(run, tmp_path):
    def epoch(norm, collapsed):
        table = TableHealth(norm_median=norm, norm_p10=norm / 2, effective_rank=1.3, directions=16, list_overlap=None)
        attention = AttentionHealth(entropy=0.96789, sharp=0.254)
        return dataclasses.asdict(
            Health(tables={"some.weight": table}, attentions={"of click": attention}, collapsed=collapsed)
        )

    def measured(path, _meta):
        training = {"best_epoch": 1, "health": [epoch(0.375, ["it was"]), epoch(0.125, ["it has collapsed"])]}
        (path / "metrics.json").write_text(json.dumps({"training": training}))

    publish(tmp_path)
    edited(tmp_path, measured)
    code, out, _ = run("bundle", "show", "--bundle", tmp_path)
    assert code == 0
    for text in ("some.weight", "0.125", "0.062", "1.3", "it has collapsed", "of click", "0.9679", "25.4%"):
        assert text in out
    assert "it was" not in out
    assert "0.375" not in out


def test_diff_says_what_differs_and_nothing_else(run, tmp_path):
    schema = SCHEMA.model_copy(update={"item_min_count": 9})
    publish(tmp_path / "one")
    publish(tmp_path / "other", seed=2, schema=schema)
    arguments = ("bundle", "diff", "--bundle", tmp_path / "one", "--other", tmp_path / "other")
    code, out, _ = run(*arguments, "--json", tmp_path / "diff.json")
    assert code == 0
    found = json.loads((tmp_path / "diff.json").read_text())
    config = {each["key"]: (each["left"], each["right"]) for each in found["config"]}
    assert config.pop("schema.item_min_count") == (5, 9)
    assert list(config) == ["provenance.schema_sha256"]
    assert [(each["key"], each["left"], each["right"]) for each in found["metrics"]] == [
        ("validation.click.auc", 0.5, 0.7)
    ]
    one, other = (load_bundle(tmp_path / root).network.state_dict() for root in ("one", "other"))
    changes = {each["name"]: each["change"] for each in found["weights"]}
    assert set(changes) == {name for name in one if not torch.equal(one[name], other[name])}
    assert 5 < len(changes) < len(one)
    for name, change in changes.items():
        norm = float(one[name].norm())
        assert change == pytest.approx(float((other[name] - one[name]).norm()) / norm if norm else np.inf, rel=1e-5)
    moved = {(each["target"], each["encoding"]) for each in found["positions"]}
    assert moved == {("click", "interval"), ("click", "match_level"), ("buy", "rank"), ("buy", "calendar:week")}
    assert "item_min_count" in out
    code, out, _ = run(*arguments[:-1], tmp_path / "one")
    assert (code, "say the same" in out) == (0, True)


def test_differences_of_nested_configuration_name_the_key():
    left = {"a": 1, "b": [{"c": 2}, 3], "gone": {"x": 1}}
    right = {"a": 1, "b": [{"c": 5}], "new": [1]}
    found = {each.key: (each.left, each.right) for each in differences(left, right, "k")}
    assert found == {"k.b.0.c": (2, 5), "k.b.1": (3, None), "k.gone": ({"x": 1}, None), "k.new": (None, [1])}


class Answers:
    """A retriever with one answer."""

    def __init__(self, found):
        self.found = found

    def search(self, request, deadline=None, request_id=""):
        if self.found is None:
            raise SearchUnavailableError("down")
        return self.found


def test_an_answer_for_another_model_or_another_kind_of_field_is_refused(tmp_path):
    bundle = opened(tmp_path)
    _, found = synthetic_request(bundle, sample_categories(bundle, 2), [5, 1], [0, 1])
    good = {"brand": np.array([1, 2], np.uint64), "price": np.array([1, 2], np.float32)}
    for index_model in ("", bundle.name):
        check_compatible(bundle, dataclasses.replace(found, index_model=index_model, candidate_fields=good))
    other = dataclasses.replace(found, index_model="M", index_generation="I")
    with pytest.raises(BundleMismatchError, match=f"index I holds the vectors of model M, bundle {bundle.name} has"):
        check_retriever(bundle, Answers(other))
    ids = dataclasses.replace(found, candidate_fields={**good, "price": good["brand"]}, store_generation="S")
    with pytest.raises(
        BundleMismatchError,
        match=r"schema of bundle .*: candidate field 'price' is numeric, store S holds ids",
    ):
        check_compatible(bundle, ids)
    numbers = dataclasses.replace(found, candidate_fields={"brand": good["price"]})
    with pytest.raises(BundleMismatchError, match=r"'brand' is categorical, store .*holds numbers"):
        check_compatible(bundle, numbers)
    check_retriever(bundle, Answers(None))
