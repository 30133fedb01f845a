"""Audits a published generation: every hash, every record, every number of the taxonomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.behavior_store import BehaviorStore
from store.errors import CorruptGenerationError, CorruptRecordError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from store.behavior_store import Snapshot
    from store.taxonomy import Taxonomy
    from store.types import UserColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was audited; a damaged generation raises instead."""

    generation: str
    num_users: int
    num_behaviors: int


def verify(
    root: Path, generation: str | None = None, *, progress: Callable[[float], None] = lambda done: None
) -> VerifyReport:
    """Reads everything of a generation and checks it: hashes, taxonomy, and each user's record and order.

    Args:
        root: Root of the store.
        generation: Its name; None = the current one.
        progress: Called with the part that is done, 0 to 1.

    Raises:
        GenerationError: The first damage found; the message names the file, and the user if it is in a record.
    """
    with BehaviorStore.open(root, generation) as store, store.snapshot() as snapshot:
        problem = find_taxonomy_problem(snapshot.taxonomy)
        if not problem and snapshot.taxonomy.fingerprint() != snapshot.meta.taxonomy_fingerprint:
            problem = "it does not match the fingerprint in the manifest"
        if problem:
            raise CorruptGenerationError(f"{root}: taxonomy: {problem}; run `lookback-store ingest` again")
        num_users = num_behaviors = 0
        for user in snapshot.user_ids():
            columns = snapshot.columns(user, check=True)
            problem = find_columns_problem(columns, snapshot)
            if problem:
                raise CorruptRecordError(f"{root}: user {user}: {problem}; run `lookback-store ingest` again")
            num_users += 1
            num_behaviors += columns.num_behaviors
            progress(num_users / max(snapshot.meta.num_users, 1))
        if (num_users, num_behaviors) != (snapshot.meta.num_users, snapshot.meta.num_behaviors):
            raise CorruptGenerationError(
                f"{root}: {num_behaviors} behaviors of {num_users} users, the manifest says "
                f"{snapshot.meta.num_behaviors} of {snapshot.meta.num_users}; run `lookback-store ingest` again"
            )
        return VerifyReport(generation=snapshot.generation, num_users=num_users, num_behaviors=num_behaviors)


def find_taxonomy_problem(taxonomy: Taxonomy) -> str:
    """Gives what is wrong with a taxonomy's numbers; empty when it is a pre-order."""
    problem = taxonomy.find_length_problem()
    if problem:
        return problem
    node = np.arange(taxonomy.num_nodes)
    parent, end, depth = taxonomy.parent.astype(np.int64), taxonomy.end.astype(np.int64), taxonomy.depth
    below = np.flatnonzero(parent >= 0)
    above = parent[below]
    if not bool(np.all((parent >= -1) & (parent < node) & (end > node) & (end <= taxonomy.num_nodes))):
        return "a subtree is no interval"
    if not bool(np.all((end[below] <= end[above]) & (depth[below] == depth[above] + 1))):
        return "a subtree is not inside its parent's"
    if not bool(np.all(depth[parent < 0] == 1)) or bool(taxonomy.is_item[above].any()):
        return "a depth is wrong, or something hangs under an item"
    for ids, nodes in (
        (taxonomy.category_ids, taxonomy.category_nodes),
        (taxonomy.item_ids, taxonomy.item_nodes),
    ):
        if not bool(np.all(ids[1:] > ids[:-1])) or not np.array_equal(taxonomy.id[nodes], ids):
            return "the ids do not ascend, or do not match their nodes"
    if bool(np.any(taxonomy.domain_category_nodes > taxonomy.unmapped)):
        return "a bridge leads out of the tree"
    return ""


def find_columns_problem(columns: UserColumns, snapshot: Snapshot) -> str:
    """Gives what is wrong with a user's columns; empty when they are as `UserColumns` describes."""
    num_rows = columns.num_behaviors
    if not np.array_equal(np.sort(columns.order), np.arange(num_rows)):
        return "the time order is no permutation"
    if not np.array_equal(columns.rank[columns.order], np.arange(num_rows)):
        return "rank is not the inverse of order"
    in_time = columns.timestamp_ms[columns.order]
    if not bool(np.all(in_time[1:] >= in_time[:-1])):
        return "the time order is not in order"
    streams = [(section.domain, section.action) for section in columns.sections]
    if streams != sorted(set(streams)) or not set(streams) <= set(snapshot.meta.streams):
        return "the sections are not in order, or of no known stream"
    inside = np.ones(max(num_rows - 1, 0), np.bool_)
    inside[[section.stop - 1 for section in columns.sections[:-1]]] = False
    node, rank = columns.node.astype(np.int64), columns.rank.astype(np.int64)
    ascends = (np.diff(node) > 0) | ((np.diff(node) == 0) & (np.diff(rank) > 0))
    if not bool(np.all(ascends | ~inside)):
        return "the rows of a section are not ordered by node and time"
    if int(node.max(initial=0)) > snapshot.taxonomy.unmapped:
        return "a node is outside the taxonomy"
    if int(columns.scene.max(initial=0)) >= max(len(snapshot.vocabulary.scenes), 1):
        return "a scene is outside the vocabulary"
    return ""
