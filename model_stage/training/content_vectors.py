"""The attention table out of content vectors: known before any training, and never changed by it.

A row of the tree holds what its node adds to the one above, so that the sum over a path is the vector of its node. A
category's vector is the weighted mean of the vectors of the items below it; an item without a vector has that of its
category, and a category without one that of its parent.

All are scaled alike, so that attention can tell them apart: a vector of root-mean-square norm, over the weights, has
the score `SELF_SCORE` with itself, <v, v> / sqrt(D). Cosines, and what soft search finds, do not change.

Legend: V rows of the tree, D width, I items with a vector.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_stage.errors import ConfigError
from store.dataset.item_vectors import ITEM_VECTORS, read_item_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from model_stage.config.schema import Schema
    from model_stage.encoding.vocabulary import TreeVocabulary
    from model_stage.networks.embeddings import PathEmbedding
    from store.dataset.item_vectors import ItemVectors
    from store.types import F32


SELF_SCORE = 3.0
"""Our choice: e^3 = 20 times the weight of what has nothing in common. On Complete Journey .5 ranks as well, and its
attention is next to a mean."""


def load_content_vectors(dataset: Path, schema: Schema) -> ItemVectors:
    """Reads the vectors of a dataset folder that a schema's attention table is to be.

    Raises:
        ConfigError: There are none, or they are of another width than the schema's attention table.
        InputError: As `read_item_vectors`.
    """
    vectors = read_item_vectors(dataset)
    if vectors is None:
        raise ConfigError(
            f"train.yaml: attention: content, but {dataset} has no {ITEM_VECTORS}.parquet; "
            "`python -m scripts.item_vectors` makes one of what users did, docs/data.md says what it holds"
        )
    if vectors.dim != schema.attention_dim:
        raise ConfigError(
            f"schema.yaml: attention_dim: {schema.attention_dim}, but the vectors of {ITEM_VECTORS}.parquet have "
            f"{vectors.dim} dimensions"
        )
    return vectors


def set_content_vectors(table: PathEmbedding, tree: TreeVocabulary, given: ItemVectors) -> None:
    """Makes a table the vectors of items that are given, and stops it from learning; its side-info still does.

    Args:
        table: The attention table.
        tree: Its rows.
        given: Vectors as wide as the table.
    """
    with torch.no_grad():
        table.node.weight.copy_(torch.from_numpy(_differences(tree, given)))
        for side in table.side:
            assert isinstance(side, torch.nn.Embedding)
            side.weight.zero_()
    table.node.requires_grad_(False)


def _differences(tree: TreeVocabulary, given: ItemVectors) -> F32:
    """Gives what each node's vector adds to its parent's. (V, D)."""
    rows = tree.items.lookup(given.ids)
    known = rows > 0
    rows, vectors = rows[known], given.vectors[known].astype(np.float64)
    weights = given.weights[known].astype(np.float64)
    total, weight = np.zeros((len(tree.path), given.dim)), np.zeros(len(tree.path))
    above = tree.path[rows, 1:]
    for column in above.T:
        np.add.at(total, column, vectors * weights[:, None])
        np.add.at(weight, column, weights)
    there = weight > 0
    total[there] /= weight[there, None]
    total[rows], there[rows] = vectors, True
    parent = np.append(tree.path, np.zeros((len(tree.path), 1), np.int32), axis=1)[:, 1]
    depth = (tree.path > 0).sum(1)
    for level in range(1, tree.path.shape[1] + 1):
        without = np.flatnonzero(~there & (depth == level))
        total[without] = total[parent[without]]
    total[0] = 0.0
    difference: F32 = (_scale(given) * (total - total[parent])).astype(np.float32)
    return difference


def _scale(given: ItemVectors) -> float:
    """Gives the factor by which the mean score of a vector with itself is `SELF_SCORE`; 1 where all are nothing."""
    size = float((given.weights * (given.vectors.astype(np.float64) ** 2).sum(1)).sum())
    return math.sqrt(SELF_SCORE * math.sqrt(given.dim) * float(given.weights.sum()) / size) if size > 0 else 1.0
