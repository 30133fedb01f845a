"""What is measured on an index before it is published, and the bar it has to pass."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from search_stage.config import SoftConfig
from search_stage.errors import IndexCheckError
from search_stage.index.layout import SelfCheck
from search_stage.index.vectors import LARGEST_NORM, norms, to_float32

if TYPE_CHECKING:
    import numpy.typing as npt

    from search_stage.index.clusters import Clusters
    from store.reading.snapshot import Snapshot
    from store.types import F32, U32, AnyArray, Bool

LARGEST_NORM_ERROR = 1 / 128
"""A bfloat16 is off by 1 / 512 at most; more means that a type cannot hold the numbers at all."""
TOP_K = 50
PROBE_ONE_IN = SoftConfig().probe_one_in
"""1/N of the clusters is probed, as `search.yaml` does by default."""

_USERS_LOOKED_AT = 512
_USERS = 16
_QUERIES = 32
_LONG = 1_000
"""Different vectors in a history from which on the approximate path is of any use."""
_SEED = 7


def measure(
    snapshot: Snapshot, table: AnyArray, representative: U32, clusters: Clusters, norm_error: float
) -> SelfCheck:
    """Compares the approximate path with the exact one on the longest histories among some users of the store.

    Users are looked at in the order of their keys, which is the order of a hash: a random sample, the same every time.
    For each, some nodes of the table drawn at random are the queries.

    Args:
        snapshot: The store generation.
        table: Vectors as they are stored. (num_nodes + 1, d)
        representative: For each row the first equal one. (num_nodes + 1,)
        clusters: Centroids, and the cluster of each row.
        norm_error: Of the stored vectors against the exported ones.
    """
    probes = -(-len(clusters.centroids) // PROBE_ONE_IN)
    found: list[tuple[float, float]] = []
    histories = _longest_histories(snapshot, representative)
    generator = np.random.default_rng(_SEED)
    for nodes in histories:
        keys = to_float32(table.take(nodes, axis=0))
        queries = to_float32(table.take(generator.integers(len(table) - 1, size=_QUERIES), axis=0))
        for query in queries[np.any(queries != 0, axis=1)]:
            probed = probe(query, clusters.centroids, clusters.cluster[nodes], probes)
            found.append((recall_of(keys @ query, probed), float(np.mean(probed))))
    recall, scored = np.mean(found, axis=0) if found else (1.0, 1.0)
    return SelfCheck(
        num_users=len(histories) if found else 0,
        top_k=TOP_K,
        probes=probes,
        recall=float(recall),
        scored=float(scored),
        norm_error=norm_error,
    )


def probe(query: F32, centroids: F32, cluster: npt.NDArray[np.uint16], probes: int) -> Bool:
    """Gives which rows are in the clusters of the highest inner product with the query, among those that occur.

    Args:
        query: (d,)
        centroids: (K, d)
        cluster: Of each row. (N,)
        probes: Number of clusters.
    """
    occurring = np.flatnonzero(np.bincount(cluster, minlength=len(centroids)))
    best = occurring[np.argsort(centroids[occurring] @ query)[-probes:]]
    is_probed = np.zeros(len(centroids), np.bool_)
    is_probed[best] = True
    return is_probed[cluster]


def recall_of(scores: F32, probed: Bool) -> float:
    """Gives the share of the `TOP_K` best scores that are among the rows probed; ties count as found.

    Args:
        scores: At least `TOP_K`. (N,)
        probed: (N,)
    """
    kth_best = np.partition(scores, -TOP_K)[-TOP_K]
    return min(int(np.count_nonzero(scores[probed] >= kth_best)), TOP_K) / TOP_K


def largest_norm_error(stored: AnyArray, exported: F32) -> float:
    """Gives the largest relative difference of the norms of two tables' rows; infinite where a number is not finite.

    Args:
        stored: Vectors as they are stored. (N, d)
        exported: The same as exported. (N, d)
    """
    was, now = norms(exported), norms(to_float32(stored))
    if not bool(np.all(now <= LARGEST_NORM)):
        return float("inf")
    return float(np.max(np.abs(now - was) / np.maximum(was, np.finfo(np.float64).tiny), initial=0))


def check_norms(norm_error: float, dtype: str) -> None:
    """Checks that a type holds the exported vectors.

    Raises:
        IndexCheckError: It does not.
    """
    if norm_error > LARGEST_NORM_ERROR:
        raise IndexCheckError(
            f"dtype: {dtype} cannot hold the exported vectors (a norm is off by {norm_error:.3g} of itself, "
            f"{LARGEST_NORM_ERROR:.3g} is allowed); build with --dtype float32 or bfloat16"
        )


def check_recall(check: SelfCheck, min_recall: float) -> None:
    """Checks that the approximate path finds enough.

    Raises:
        IndexCheckError: It does not.
    """
    if check.recall < min_recall:
        raise IndexCheckError(
            f"recall: looking into {check.probes} clusters finds {check.recall:.3f} of the best {check.top_k} of "
            f"{check.num_users} sampled users, {min_recall:.3f} is asked for; build with --full to train the clusters "
            "anew, or lower --min-recall where the approximate path is not used"
        )


def _longest_histories(snapshot: Snapshot, representative: U32) -> list[U32]:
    """Gives the nodes, equal vectors once, of users with many."""
    lengths = [
        (snapshot.user(user).columns.num_behaviors, user) for user in islice(snapshot.user_ids(), _USERS_LOOKED_AT)
    ]
    users = [user for length, user in sorted(lengths, reverse=True)[:_USERS] if length >= _LONG]
    histories = [np.unique(representative[snapshot.user(user).columns.node]) for user in users]
    return [nodes for nodes in histories if len(nodes) >= _LONG]
