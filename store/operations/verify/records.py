"""What must hold for the parts of a generation, each said as a function that gives what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.fields import value_type_of
from store.records.rows import stream_of_rows, widen

if TYPE_CHECKING:
    from store.base.meta import StoreMeta
    from store.taxonomy.resolve import NodeResolver
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import UserColumns, UserExtras


def find_taxonomy_problem(taxonomy: Taxonomy) -> str | None:
    """Gives what is wrong with a taxonomy's numbers; None when it is a pre-order."""
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
    return None


def find_columns_problem(columns: UserColumns, meta: StoreMeta, taxonomy: Taxonomy) -> str | None:
    """Gives what is wrong with a user's columns; None when they are as `UserColumns` describes."""
    num_rows = columns.num_behaviors
    order, rank = columns.order.astype(np.int64), columns.rank.astype(np.int64)
    if not np.array_equal(np.sort(order), np.arange(num_rows)):
        return "the time order is no permutation"
    if not np.array_equal(rank[order], np.arange(num_rows)):
        return "rank is not the inverse of order"
    in_time = columns.timestamp_ms[order]
    if not bool(np.all(in_time[1:] >= in_time[:-1])):
        return "the time order is not in order"
    streams = [(section.domain, section.action) for section in columns.sections]
    if streams != sorted(set(streams)) or not set(streams) <= set(meta.streams):
        return "the sections are not in order, or of no known stream"
    inside = np.ones(max(num_rows - 1, 0), np.bool_)
    inside[[section.stop - 1 for section in columns.sections[:-1]]] = False
    node = columns.node.astype(np.int64)
    ascends = (np.diff(node) > 0) | ((np.diff(node) == 0) & (np.diff(rank) > 0))
    if not bool(np.all(ascends | ~inside)):
        return "the rows of a section are not ordered by node and time"
    if int(node.max(initial=0)) > taxonomy.unmapped:
        return "a node is outside the taxonomy"
    if int(columns.scene.max(initial=0)) >= max(len(meta.scenes), 1):
        return "a scene is outside the vocabulary"
    return None


def find_extras_problem(
    columns: UserColumns, extras: UserExtras, meta: StoreMeta, resolver: NodeResolver
) -> str | None:
    """Gives what is wrong with the rest of a user's record; None when item and category lead to the node of each row.

    Args:
        columns: Sound columns.
        extras: Of the same record.
        meta: Of the generation.
        resolver: For the taxonomy and the domains of the generation.
    """
    given = (extras.category, *extras.fields, *(() if extras.key is None else (extras.key,)))
    if any(len(column) != columns.num_behaviors for column in given):
        return "the columns differ in length"
    if len(extras.fields) != len(meta.behavior_fields):
        return f"{len(extras.fields)} side-info fields, the manifest names {len(meta.behavior_fields)}"
    for (name, kind), values in zip(meta.behavior_fields, extras.fields, strict=True):
        if value_type_of(values).kind != kind:
            return f"side-info field {name} is no {kind}"
    if extras.key is not None and not meta.keyed:
        return "there are event ids, and the manifest says that there are none"
    item, category = columns.item.astype(np.uint64), widen(extras.category)
    if not np.array_equal(resolver.nodes(item, category, stream_of_rows(columns)), columns.node):
        return "item and category of a row lead to another node than it has"
    return None
