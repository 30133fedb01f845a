"""Vectors that are looked up in serving: those that training sums, mapped and shared, rounded only where told to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model_stage.bundle import Provenance, attention_export, load_bundle, new_network, save_bundle
from model_stage.calibration import Calibration
from model_stage.config.schema import Schema
from model_stage.config.targets import Target, Targets
from model_stage.encoding.batch import collate
from model_stage.encoding.vocabulary import IdRows, TreeVocabulary, Vocabularies
from model_stage.inspection.synthetic_request import sample_categories, synthetic_request
from model_stage.inspection.verify import verify_bundle
from model_stage.networks import NetworkConfig
from store.types import DAY_MS

SCHEMA = Schema(attention_dim=64, representation_dim=64)
TARGETS = Targets(targets=(Target(name="click"),))
NUM_NODES = 16_384
"""Of one table 4 MiB as float32, 2 as bfloat16: enough to be mapped."""


def publish_large(root, dtype):
    """Publishes a network of random vectors over a tree of three levels."""
    draw, rows = np.random.default_rng(0), np.arange(NUM_NODES, dtype=np.int32)
    parent = np.where(rows > 100, draw.integers(1, 100, NUM_NODES), 0).astype(np.int32)
    path = np.stack([rows, parent, np.where(parent > 10, parent % 10 + 1, 0).astype(np.int32)], axis=1)
    ids = np.arange(1, NUM_NODES, dtype=np.uint64)
    known = IdRows(ids=ids, rows=ids.astype(np.int64))
    nothing = IdRows(ids=ids[:0], rows=ids[:0].astype(np.int64))
    vocabularies = Vocabularies(
        tree=TreeVocabulary(categories=known, items=nothing, path=path),
        behavior_names={"domain": ("ads",), "action": ("click",), "scene": ("",)},
        categorical={},
        streams=(("ads", "click"),),
    )
    network = new_network(SCHEMA, TARGETS, NetworkConfig(), vocabularies, seed=0)
    save_bundle(
        root,
        schema=SCHEMA,
        targets=TARGETS,
        network_config=NetworkConfig(),
        vocabularies=vocabularies,
        network=network,
        calibration=Calibration(),
        metrics={},
        provenance=Provenance(),
        served_as=dtype,
    )
    return network.eval()


def batch_of(bundle):
    made_up = synthetic_request(bundle, sample_categories(bundle, 50), [3 * DAY_MS, DAY_MS, 1], [1, 0, 0])
    return collate([bundle.encoder.encode(*made_up)])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0.0), (torch.bfloat16, 2.0**-8)])
def test_a_network_that_looks_vectors_up_says_what_one_that_sums_them_does(tmp_path, dtype, tolerance):
    """bfloat16 keeps 8 bits: half a unit of the last is 2^-9 of a number, and a sum's terms may err by as much."""
    summing = publish_large(tmp_path, dtype)
    bundle = load_bundle(tmp_path)
    assert bundle.network.served_type is dtype
    rows = torch.arange(NUM_NODES, dtype=torch.int32)
    looked_up, summed = bundle.network.attention.nodes(rows), summing.attention.nodes(rows)
    assert looked_up.dtype is torch.float32
    assert bool(((looked_up - summed).abs() <= tolerance * summed.abs()).all())
    batch = batch_of(bundle)
    with torch.inference_mode():
        ours, theirs = bundle.network(batch).logit_BT, summing(batch).logit_BT
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * 10)
    assert (tolerance == 0.0) == torch.equal(ours, theirs)
    # What the index is built of, and what another training takes over, is never rounded.
    assert torch.equal(bundle.network.attention.summed_nodes(rows), summed)
    exported = attention_export(bundle.network, bundle.vocabularies)
    np.testing.assert_array_equal(exported["category_vectors"], summed[1:].detach())
    assert f"{NUM_NODES:,} nodes, {dtype}" in dict(verify_bundle(tmp_path))["served vectors"]


def pages(path):
    """Kilobytes of a file's pages in this process, by what /proc says of them."""
    found, inside = dict.fromkeys(("Rss", "Anonymous"), 0), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, _, rest = line.partition(":")
        if "-" in key:
            inside = line.endswith(str(path))
        elif inside and key in found:
            found[key] += int(rest.split()[0])
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux which pages are mapped")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_tables_are_pages_of_their_file_that_processes_share(tmp_path, dtype):
    publish_large(tmp_path, dtype)
    bundle = load_bundle(tmp_path)
    with torch.inference_mode():
        bundle.network.attention.nodes(torch.arange(NUM_NODES))
        bundle.network(batch_of(bundle))
    folder = tmp_path / "generations" / bundle.name
    table_kb = NUM_NODES * 64 * dtype.itemsize // 1024
    served, weights, ids = (pages(folder / f"{name}.safetensors") for name in ("served", "weights", "vocabulary"))
    assert served["Rss"] >= table_kb
    # Pages that a process has written to, or copied to, are its own: there are none.
    assert served["Anonymous"] == weights["Anonymous"] == ids["Anonymous"] == 0
    for tensor in (bundle.network.attention.node.weight, bundle.network.representation.served_nodes):
        assert lies_in_a_file(tensor.data_ptr(), folder)
    assert not lies_in_a_file(bundle.network.dense_scale.data_ptr(), folder)


def lies_in_a_file(address, folder):
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, _, last = line.split()[0].partition("-")
        if int(first, 16) <= address < int(last, 16):
            return str(folder) in line
    raise AssertionError(hex(address))
