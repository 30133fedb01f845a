"""A small bundle made by hand: food > (tea, coffee), tools; one item of tea; random weights."""

from __future__ import annotations

import json

import numpy as np
import torch

from model_stage.bundle import Provenance, load_bundle, new_network, save_bundle
from model_stage.calibration import Calibration, Platt
from model_stage.config.schema import CategoricalField, NumericField, Schema
from model_stage.config.targets import (
    CalendarPosition,
    IntervalPosition,
    MatchLevelPosition,
    RankPosition,
    Target,
    Targets,
)
from model_stage.encoding.vocabulary import IdRows, TreeVocabulary, Vocabularies
from model_stage.networks import NetworkConfig
from store.publishing.generation import GenerationWriter

SCHEMA = Schema(
    attention_dim=4,
    representation_dim=4,
    fields=(
        CategoricalField(kind="categorical", name="brand", part="candidate"),
        NumericField(kind="numeric", name="price", part="candidate"),
    ),
)
TARGETS = Targets(
    targets=(
        Target(
            name="click",
            positions=(IntervalPosition(kind="interval", buckets=6), MatchLevelPosition(kind="match_level", levels=2)),
        ),
        Target(
            name="buy",
            positions=(RankPosition(kind="rank", buckets=5), CalendarPosition(kind="calendar", period="week")),
        ),
    )
)
VOCABULARIES = Vocabularies(
    tree=TreeVocabulary(
        categories=IdRows(ids=np.array([10, 20, 30, 40], np.uint64), rows=np.array([1, 2, 3, 4])),
        items=IdRows(ids=np.array([7], np.uint64), rows=np.array([5])),
        path=np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 1, 0], [4, 0, 0], [5, 2, 1]], np.int32),
    ),
    behavior_names={"domain": ("ads", "content"), "action": ("click",), "scene": ("",)},
    categorical={"brand": np.array([1, 2], np.uint64)},
    streams=(("ads", "click"),),
)


def publish(root, *, seed=0, schema=SCHEMA, targets=TARGETS, spread=1.0):
    """Publishes a bundle; `spread` is the deviation of its positional tables, so that they have something to say."""
    network = new_network(schema, targets, NetworkConfig(), VOCABULARIES, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "positions" in name:
                parameter.normal_(0.0, spread, generator=generator)
    return save_bundle(
        root,
        schema=schema,
        targets=targets,
        network_config=NetworkConfig(),
        vocabularies=VOCABULARIES,
        network=network,
        calibration=Calibration(by_target={"click": Platt(slope=1.25, intercept=-0.5)}),
        metrics={"validation": {"click": {"auc": 0.5 + seed / 10, "logloss": 0.2}}},
        provenance=Provenance(
            store_generation="s", taxonomy_fingerprint="t", train_from_ms=0, train_until_ms=86_400_000
        ),
    )


def opened(root, **changes):
    return load_bundle(root, publish(root, **changes))


def edited(root, edit):
    """Publishes the current bundle again after an edit of its files, with hashes that fit: no bit is wrong."""
    name = (root / "CURRENT").read_text().strip()
    source = root / "generations" / name
    manifest = json.loads((source / "manifest.json").read_text())
    with GenerationWriter(root, kind="model") as writer:
        for file in manifest["files"]:
            (writer.path / file).write_bytes((source / file).read_bytes())
        writer.meta.update(manifest["meta"])
        edit(writer.path, writer.meta)
        return writer.publish()
