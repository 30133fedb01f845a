"""Labelled impressions on the small world of `tests.worlds.services`, and what to train on them, in a second or two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from model_stage.training.pipeline import Recipe
from store.building.ingest import ingest
from tests.worlds.services import AS_OF_MS, DAY_MS, write_dataset

ADS = ("a1", "a2", "a3", "c1")
FIRST_MS, CUT_MS = AS_OF_MS, AS_OF_MS + 5 * DAY_MS


def write_impressions(folder: Path) -> Path:
    """Writes a dataset, and its store beside it: two thirds of the clicks are on tea; nobody buys."""
    write_dataset(folder)
    draw = np.random.default_rng(0)
    lines = ["user,item,timestamp_ms,label_click,label_buy,seen[]"]
    for day in range(15):
        for user in range(10):
            for name in ADS:
                click = int(draw.random() < (0.6 if name == "a1" else 0.1))
                lines.append(f"u{user},{name},{FIRST_MS + day * DAY_MS},{click},0,x{day}|x{user}|x{day + 1}")
    (folder / "impressions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits = {"validation_from_ms": CUT_MS, "test_from_ms": AS_OF_MS + 10 * DAY_MS}
    (folder / "splits.json").write_text(json.dumps(splits))
    ingest(folder, folder.parent / "store")
    return folder


def recipe(folder, schema, method="none", epochs=1, preset="tin"):
    """Writes a configuration and reads it."""
    folder.mkdir()
    (folder / "schema.yaml").write_text(schema)
    (folder / "targets.yaml").write_text("targets: [{name: click}, {name: buy}]")
    (folder / "train.yaml").write_text(
        f"{{train: {{max_epochs: {epochs}}}, calibration: {method}, network: {{preset: {preset}}}}}"
    )
    return Recipe.load(folder)
