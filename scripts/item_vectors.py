"""Vectors of items out of what users did: `python -m scripts.item_vectors --data DATASET --store ROOT --dim N`.

For datasets that have no content vectors of their own (docs/data.md, item_vectors). Items are alike when the same users
chose them: the truncated singular value decomposition of the matrix users x items, log(1 + behaviors) times the items'
inverse document frequency. An ad that covers products is their mean, weighted by how often they were chosen. Of the
time that validation and test are of, nothing is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import randomized_svd

from model_stage.config.schema import load_yaml
from model_stage.training.impressions import Splits
from store import BehaviorStore
from store.command import StoreOption, command_line, run
from store.dataset.item_vectors import ITEM_VECTORS, ItemVectors
from store.terminal import say

if TYPE_CHECKING:
    from store.reading.snapshot import Snapshot
    from store.types import F32, I64, U64

FILE = f"{ITEM_VECTORS}.parquet"
_SEED = 0
_LEAST = 1e-4
"""Singular values below this share of the largest are rounding: their directions are arbitrary."""


def main(
    data: Annotated[Path, typer.Option(help="Dataset directory with splits.json; takes item_vectors.parquet.")],
    store: StoreOption,
    dim: Annotated[int, typer.Option(min=2, max=256, help="Dimensions: attention_dim of the schema.")] = 32,
) -> None:
    """Writes item_vectors.parquet into a dataset: vectors of items out of what users did before the validation."""
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        vectors = item_vectors(snapshot, load_yaml(data / "splits.json", Splits).validation_from_ms, dim)
    table = {
        "item": pa.array(vectors.ids),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.vectors.ravel()), dim),
        "weight": pa.array(vectors.weights),
    }
    pq.write_table(pa.table(table), data / FILE)
    say(f"wrote {len(vectors.ids):,} vectors of {vectors.dim} dimensions to {data / FILE}")


def item_vectors(snapshot: Snapshot, until_ms: int, dim: int) -> ItemVectors:
    """Gives the vectors of all items that were chosen before a time, and of the ads that cover some of them.

    The root mean square of their norms over all behaviors is 1; an ad's norm is 1.

    Args:
        snapshot: The store.
        until_ms: Behaviors from then on do not count.
        dim: Dimensions; those beyond the rank of the matrix are 0.
    """
    users, nodes = _chosen(snapshot, until_ms)
    taxonomy = snapshot.taxonomy
    space = space_of(users, nodes, dim)
    items, often = space.items, space.often
    vectors = space.vectors * space.idf[:, None]
    vectors /= max(float(np.sqrt((often * (vectors**2).sum(1)).sum() / max(often.sum(), 1))), 1e-12)
    ads, of_ads = _of_ads(snapshot, space)
    # An ad that was chosen itself, too, is what it covers.
    own = ~np.isin(taxonomy.id[items], ads)
    ids = np.concatenate([taxonomy.id[items][own], ads])
    order = np.argsort(ids)
    return ItemVectors(
        ids=ids[order],
        vectors=np.concatenate([vectors[own], of_ads])[order],
        weights=np.concatenate([often[own], np.zeros(len(ads), np.float32)])[order].astype(np.float32),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Things as points: near to one another when the same users chose them."""

    items: I64
    """What was chosen, ascending. (I,)"""
    vectors: F32
    """Directions of the decomposition, by item. (I, dim)"""
    idf: F32
    """Inverse document frequency: log of users over the users who chose it. (I,)"""
    often: F32
    """How often it was chosen. (I,)"""


def space_of(users: I64, items: I64, dim: int, rounds: Any = "auto") -> Space:  # noqa: ANN401 -- scikit-learn's
    """Gives the truncated singular value decomposition of users x items, log(1 + choices) times idf.

    Args:
        users: Who chose. (N,)
        items: What. (N,)
        dim: Dimensions; those beyond the rank of the matrix are 0.
        rounds: Power iterations, a number; auto = scikit-learn's choice.
    """
    chosen, column = np.unique(items, return_inverse=True)
    who, row = np.unique(users, return_inverse=True)
    counts = csr_matrix((np.ones(len(row), np.float32), (row, column)), (len(who), len(chosen)))
    idf = np.log(len(who) / counts.getnnz(axis=0)).astype(np.float32)
    vectors = np.zeros((len(chosen), dim), np.float32)
    kept = min(dim, len(who), len(chosen))
    if kept > 0:
        weighted = csr_matrix(counts.log1p().multiply(idf))
        _, size, directions = randomized_svd(weighted, kept, n_iter=rounds, random_state=_SEED)
        vectors[:, :kept] = np.where(size > _LEAST * size[0], directions.T, 0.0)
    return Space(items=chosen, vectors=vectors, idf=idf, often=counts.sum(axis=0).A1)


def _chosen(snapshot: Snapshot, until_ms: int) -> tuple[I64, I64]:
    """Gives the user and the node of every behavior with an item that the store knows, before a time. (N,) each."""
    users, nodes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    is_item = np.append(snapshot.taxonomy.is_item, np.False_)
    for number, user in enumerate(snapshot.user_ids()):
        columns = snapshot.user(user).columns
        node = columns.node[columns.order[: columns.num_before(until_ms)]].astype(np.int64)
        node = node[is_item[node]]
        users.append(np.full(len(node), number))
        nodes.append(node)
    return np.concatenate(users), np.concatenate(nodes)


def _of_ads(snapshot: Snapshot, space: Space) -> tuple[U64, F32]:
    """Gives the ads that cover an item with a vector, and their vectors: unit means in the space of items."""
    covers, taxonomy, items = snapshot.covers, snapshot.taxonomy, space.items
    node = taxonomy.item_node(covers.values).astype(np.int64)
    at = np.minimum(np.searchsorted(items, node), max(len(items) - 1, 0))
    known = items[at] == node if len(items) else np.zeros(len(node), bool)
    ad = np.repeat(np.arange(len(covers.ids)), np.diff(covers.offsets))[known]
    weights = csr_matrix((space.often[at[known]], (ad, at[known])), (len(covers.ids), len(items)))
    vectors = weights @ space.vectors
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    there = norm[:, 0] > 1e-12
    return covers.ids[there], (vectors[there] / norm[there]).astype(np.float32)


if __name__ == "__main__":
    run(command_line(None, main))
