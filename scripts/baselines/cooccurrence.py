"""An attention export made without a model: `python -m scripts.baselines.cooccurrence --store STORE --out FOLDER`.

For data sets without impressions there is nothing to train a model on. This gives their items vectors all the same, so
that soft search can be tried on them: the truncated singular value decomposition of the matrix users x items, log(1 +
events), columns scaled by 1 / sqrt(their users) so that popular items do not drown the rest. Items of the
same users come out with a high inner product. It uses no times, categories or labels, and does not replace a trained
table. Events of a user's last moment are left out: `lookback-search recall` asks about them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import save_file
from scipy.sparse import coo_matrix, diags
from sklearn.decomposition import TruncatedSVD

from search_stage.index.export import EXPORT_FILE
from store.behavior_store import BehaviorStore
from store.command import command_line, run
from store.terminal import say

SEED = 0


def cooccurrence_vectors(store: BehaviorStore, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives the ids of the items with behaviors, (I,), and their vectors of unit length, float32 (I, dim).

    Args:
        store: The store.
        dim: Dimensions; at most the number of items.
    """
    users: list[np.ndarray] = []
    items: list[np.ndarray] = []
    with store.snapshot() as snapshot:
        for number, user in enumerate(snapshot.user_ids()):
            columns = snapshot.user(user).columns
            earlier = columns.item[columns.timestamp_ms < columns.timestamp_ms.max()].astype(np.uint64)
            items.append(earlier)
            users.append(np.full(len(earlier), number))
    ids, column = np.unique(np.concatenate(items), return_inverse=True)
    row = np.concatenate(users)
    events = coo_matrix((np.ones(len(row), np.float32), (row, column))).tocsr()
    popularity = np.asarray((events > 0).sum(axis=0)).ravel()
    weighted = events.log1p() @ diags(1 / np.sqrt(popularity)).astype(np.float32)
    found = TruncatedSVD(dim, random_state=SEED).fit(weighted)
    vectors = found.components_.T * found.singular_values_
    return ids, (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def main(
    store: Annotated[Path, typer.Option(help="Root of the behavior store.")],
    out: Annotated[Path, typer.Option(help=f"Folder to write {EXPORT_FILE} to.")],
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of a vector.")] = 32,
) -> None:
    """Write an export of item vectors for `lookback-search build-index`; categories get none of their own."""
    with BehaviorStore.open(store) as opened:
        ids, vectors = cooccurrence_vectors(opened, dim)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        "item_ids": ids.view(np.int64),
        "item_vectors": vectors,
        "category_ids": np.empty(0, np.int64),
        "category_vectors": np.empty((0, dim), np.float32),
    }
    save_file(tensors, out / EXPORT_FILE)
    say(f"{len(ids):,} items, {dim} dimensions")


if __name__ == "__main__":
    run(command_line(None, main))
