"""Behaviors as the association sees them: a category of one depth of the taxonomy, and a position counted backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from store.reading.snapshot import Snapshot
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I64, U32, U64

NUM_BUCKETS = 21
"""Position buckets: 2**20 positions and more in the last."""
NO_GROUP = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryGroups:
    """Every category replaced by its ancestor at one depth, or by itself where it stands higher."""

    taxonomy: Taxonomy
    of_node: I64
    """Group of each node and, last, of "unmapped": `NO_GROUP`. (num_nodes + 1,)"""
    category_ids: U64
    """Category of each group. (G,)"""

    @staticmethod
    def of(taxonomy: Taxonomy, depth: int) -> CategoryGroups:
        """Groups a taxonomy's nodes.

        Args:
            taxonomy: The tree.
            depth: 1 = the top categories.
        """
        parent, is_item = taxonomy.parent.astype(np.int64), np.asarray(taxonomy.is_item)
        at = np.arange(taxonomy.num_nodes)
        while True:
            climbs = np.flatnonzero((at >= 0) & ((taxonomy.depth[at] > depth) | is_item[at]))
            if not len(climbs):
                break
            at[climbs] = parent[at[climbs]]
        nodes, of_node = np.unique(at, return_inverse=True)
        first = int(np.count_nonzero(nodes == -1))  # items that hang under no category
        return CategoryGroups(
            taxonomy=taxonomy,
            of_node=np.append(of_node - first, NO_GROUP),
            category_ids=taxonomy.id[nodes[first:]],
        )

    def __len__(self) -> int:
        return len(self.category_ids)

    def of_items(self, items: U64) -> I64:
        """Gives the group of each item; `NO_GROUP` where it or its category is unknown. (N,)."""
        return self.of_node[self.taxonomy.item_node(items)]

    def of_categories(self, categories: U64) -> I64:
        """Gives the group of each of the ads' categories; `NO_GROUP` where unknown. (N,)."""
        return self.of_node[self.taxonomy.category_node(categories)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupHistory:
    """One user's behaviors in time order."""

    group: I64
    """(N,)"""
    timestamp_ms: I64
    """(N,)"""

    @staticmethod
    def of(snapshot: Snapshot, user: int, groups: CategoryGroups) -> GroupHistory:
        """Reads a user's behaviors; none for an unknown user."""
        columns = snapshot.user(user).columns
        node: U32 = columns.node[columns.order]
        return GroupHistory(group=groups.of_node[node], timestamp_ms=columns.timestamp_ms[columns.order])

    def cells(self, as_of_ms: int, num_groups: int) -> tuple[I64, I64, I64]:
        """Counts the behaviors before a time by position bucket and group.

        Returns:
            The cells with at least one, as bucket * num_groups + group, (K,); behaviors in each, (K,); and behaviors of
            any group, known or not, in each bucket, (NUM_BUCKETS,).
        """
        count = int(np.searchsorted(self.timestamp_ms, as_of_ms))
        group = self.group[:count]
        bucket = bucket_of(np.arange(count - 1, -1, -1))
        cell, size = np.unique((bucket * num_groups + group)[group != NO_GROUP], return_counts=True)
        return cell, size, np.bincount(bucket, minlength=NUM_BUCKETS)


def bucket_of(position: I64) -> I64:
    """Gives the bucket of positions counted from the newest, 0: floor(log2(position + 1)), up to the last bucket."""
    bucket: I64 = np.minimum(np.frexp(position + 1.0)[1] - 1, NUM_BUCKETS - 1).astype(np.int64)
    return bucket
