"""One run of boosted trees on counts, times and similarity: the same split, and numbers of every impression."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from model_stage.config.schema import load_yaml
from model_stage.config.targets import Targets
from model_stage.training.example_folder import content_digest
from scripts.baselines.data import load_dataset
from scripts.baselines.run import Inputs
from scripts.evidence.code import code_digest
from scripts.evidence.results import Outcome
from store.dataset.impressions import read_impressions

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.evidence.shared import Shared

_TREES = "boosting_time_similarity"


def key_of(shared: Shared, seed: int) -> str:
    """Gives the digest of everything that the numbers of a run follow from."""
    return content_digest([shared.data_digest, list(_targets(shared)), code_digest(__name__), seed])


def run_trees(shared: Shared, seed: int) -> Outcome:
    """Fits the trees of every target on the training split and scores the test split."""
    inputs, targets = inputs_of(shared), _targets(shared)
    impressions = read_impressions(shared.data)
    test = np.flatnonzero(inputs.dataset.shown.timestamp_ms >= inputs.dataset.splits.test_from_ms)
    probability = np.zeros((len(test), len(targets)), np.float32)
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    for at, target in enumerate(targets):
        result = inputs.fit(_TREES, target, seed)
        probability[np.searchsorted(test, result.rows), at] = result.scores
    cost = {"train_s": time.monotonic() - started_s, "train_cpu_s": time.process_time() - started_cpu_s}
    return Outcome(
        targets=targets,
        labels=impressions.of_targets(targets).select(test).labels,
        probability=probability,
        user=impressions.user[test],
        cost={name: round(value, 2) for name, value in cost.items()},
        more={},
    )


def _targets(shared: Shared) -> tuple[str, ...]:
    return load_yaml(shared.config / "targets.yaml", Targets).names


def inputs_of(shared: Shared) -> Inputs:
    """Gives the numbers of every impression, kept on disk: they take longer than the trees."""
    folder = shared.data.parent / f"numbers-{content_digest([shared.data_digest, code_digest(__name__)])[:12]}"
    dataset = load_dataset(shared.data)
    if (file := _blocks_file(folder)).is_file():
        with np.load(file) as blocks:
            fourteen, *others = (blocks[name] for name in blocks.files)
        return Inputs(dataset=dataset, fourteen=fourteen, blocks=(fourteen, *others))
    inputs = Inputs.of(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(half := folder / ".half.npz", *inputs.blocks)
    half.rename(file)
    return inputs


def _blocks_file(folder: Path) -> Path:
    return folder / "blocks.npz"
