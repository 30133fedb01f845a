"""What the child processes do with an index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from search_stage.index.build import BuildOptions, build_index
from search_stage.index.generation import IndexGeneration
from store.behavior_store import BehaviorStore
from store.publishing.kept import kept_generations
from tests.worlds.datasets import build_store

CATEGORIES = 20


def make_store(folder: Path) -> Path:
    """Builds a store of some categories and no more; gives its root."""
    event = {"user": 1, "item": 900, "category": 1, "domain": "ads", "action": "click", "timestamp_ms": 1}
    taxonomy = [{"category": category, "parent": None} for category in range(1, CATEGORIES + 1)]
    return build_store(folder, behaviors=[event], taxonomy=taxonomy)


def write_export(folder: Path, value: float) -> Path:
    """Writes an export whose every vector is one value; gives its folder."""
    folder.mkdir()
    ids = np.arange(1, CATEGORIES + 1)
    vectors = np.full((CATEGORIES, 4), value, np.float32)
    tensors = {"category_ids": ids, "category_vectors": vectors, "item_ids": ids[:0], "item_vectors": vectors[:0]}
    save_file(tensors, folder / "attention.safetensors")
    return folder


def build_it(store: Path, export: Path, root: Path) -> str:
    """Builds an index, keeps two generations, and gives the name."""
    with BehaviorStore.open(store) as opened:
        return build_index(export, opened, root, BuildOptions(keep=2)).generation


def inspect(root: Path) -> tuple[str, float, int]:
    """Opens the current index: its name, its one value, and how many generations there are."""
    index = IndexGeneration.open(root)
    found = set(index.take(np.arange(index.meta.num_nodes - 1)).ravel().tolist())
    assert len(found) == 1, "an index of two exports"
    return index.name, found.pop(), len(kept_generations(root))
