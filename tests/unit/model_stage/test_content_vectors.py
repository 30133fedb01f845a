"""An attention table of content vectors: every sum over a path is the vector that is meant, and none of it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_stage.errors import ConfigError
from model_stage.networks.embeddings import PathEmbedding
from model_stage.training.content_vectors import SELF_SCORE, load_content_vectors, set_content_vectors
from store.dataset.item_vectors import ItemVectors
from tests.worlds.networks import SCHEMA, vocabularies

DIM = 8
TREE = vocabularies().tree


def some_vectors(ids, seed=0, weights=None):
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(len(ids), DIM)).astype(np.float32)
    weights = np.arange(1, len(ids) + 1, dtype=np.float32) if weights is None else np.array(weights, np.float32)
    return ItemVectors(ids=np.array(ids, np.uint64), vectors=vectors, weights=weights)


def scale_of(given):
    squares = (given.vectors**2).sum(1)
    return np.sqrt(SELF_SCORE * np.sqrt(DIM) / np.average(squares, weights=given.weights)) if squares.any() else 1.0


def vectors_of(given):
    table = PathEmbedding(vocabularies(), SCHEMA, DIM, 0.1)
    set_content_vectors(table, TREE, given)
    return table, table.summed_nodes(torch.arange(len(TREE.path))).detach().numpy() / scale_of(given)


def plainly(given):
    """Row by row: an item's own, else the weighted mean of the items below, else what the parent has."""
    vectors = {int(row): v for row, v in zip(TREE.items.lookup(given.ids), given.vectors, strict=True) if row}
    weights = {int(row): w for row, w in zip(TREE.items.lookup(given.ids), given.weights, strict=True) if row}
    found = np.zeros((len(TREE.path), DIM))
    for row in range(1, len(TREE.path)):
        below = [item for item in vectors if row in TREE.path[item, 1:].tolist() and weights[item] > 0]
        if row in vectors:
            found[row] = vectors[row]
        elif below:
            found[row] = np.average([vectors[i] for i in below], axis=0, weights=[weights[i] for i in below])
        else:
            found[row] = found[TREE.path[row, 1]]
    return found


@pytest.mark.parametrize("kept", [slice(None), slice(0, None, 2), slice(0, 1), slice(0, 0)])
def test_every_path_sums_to_its_vector(kept):
    given = some_vectors(TREE.items.ids[kept])
    _, found = vectors_of(given)
    np.testing.assert_allclose(found, plainly(given), atol=1e-6)


def test_items_of_weight_zero_have_their_vector_and_say_nothing_of_their_category():
    ids = TREE.items.ids
    given = some_vectors(ids, weights=np.arange(len(ids)) % 2)
    _, found = vectors_of(given)
    np.testing.assert_allclose(found, plainly(given), atol=1e-6)
    np.testing.assert_allclose(found[TREE.items.lookup(ids)], given.vectors, atol=1e-6)


def test_an_item_that_the_tree_does_not_know_is_passed_over():
    given = some_vectors([*TREE.items.ids, 2**63 + 5])
    _, found = vectors_of(given)
    np.testing.assert_allclose(found, plainly(given), atol=1e-6)


def test_nodes_do_not_learn_and_side_info_does():
    table, _ = vectors_of(some_vectors(TREE.items.ids))
    assert not table.node.weight.requires_grad
    assert all(side.weight.requires_grad and not side.weight.any() for side in table.side)


def test_what_is_absent_or_of_another_width_is_a_typed_error(tmp_path):
    with pytest.raises(ConfigError, match=r"attention: content, but .* has no item_vectors\.parquet"):
        load_content_vectors(tmp_path, SCHEMA)
