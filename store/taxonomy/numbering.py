"""Makes a taxonomy of its rows: numbers the tree with the items under it, and resolves bridges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.errors import InputError
from store.files.arrays import find_sorted
from store.taxonomy.taxonomy import Taxonomy
from store.taxonomy.tree import MAX_DEPTH, Forest, build_forest

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.types import I64, U32, U64, Strings


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryRows:
    """Rows of the taxonomy file."""

    category: U64
    parent: U64
    """`NO_ID` = top level."""
    domain: Strings
    """Empty = the ads' tree."""
    where: Callable[[int], str]
    """Gives the file and line of a row."""
    label: Callable[[int], str] = str
    """Gives an id as it stood in the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeRows:
    """Rows of the bridges file."""

    domain: Strings
    category: U64
    node: U64
    """Category of the ads' tree."""
    where: Callable[[int], str]
    label: Callable[[int], str] = str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRows:
    """Items with their categories; each item once."""

    item: U64
    category: U64
    """`NO_ID` = none."""
    domain: Strings
    """In whose tree the category stands; empty = the ads'."""


def build_taxonomy(categories: CategoryRows, bridges: BridgeRows, items: ItemRows) -> Taxonomy:
    """Numbers the ads' tree in pre-order with the items under their categories.

    An item stands before the child categories of its category, items of one category in the order of their ids.

    Raises:
        InputError: The rows are no trees (see `build_forest`), or a bridge names a category that does not exist or is
            bridged already; the message names the row.
    """
    ads = _forest_of(categories, "")
    tree_domains = tuple(sorted(set(categories.domain.tolist()) - {""}))
    forests = {domain: _forest_of(categories, domain) for domain in tree_domains}
    bridged = _bridged_positions(ads, forests, bridges)
    item_position = _item_positions(ads, forests, bridged, items)
    mapped = item_position >= 0
    number = np.full(len(item_position), len(ads))
    number[mapped] = ads.number[item_position[mapped]]
    order = np.lexsort((items.item, number))
    return _number(ads, item_position[order], items.item[order], forests, bridged)


def _forest_of(rows: CategoryRows, domain: str) -> Forest:
    mine = np.flatnonzero(rows.domain == domain)
    return build_forest(rows.category[mine], rows.parent[mine], lambda row: rows.where(int(mine[row])), rows.label)


def _bridged_positions(ads: Forest, forests: dict[str, Forest], bridges: BridgeRows) -> dict[str, I64]:
    """Gives for each domain's categories the position in `ads` of the nearest bridged ancestor, -1 = none."""
    nodes, node_found = find_sorted(ads.id, bridges.node)
    if not node_found.all():
        row = int(np.flatnonzero(~node_found)[0])
        node = bridges.label(int(bridges.node[row]))
        raise InputError(f"{bridges.where(row)}: node {node} is no category of the ads' tree")
    out: dict[str, I64] = {}
    for domain, forest in forests.items():
        rows = np.flatnonzero(bridges.domain == domain)
        at, found = find_sorted(forest.id, bridges.category[rows])
        if not found.all():
            row = int(rows[np.flatnonzero(~found)[0]])
            category = bridges.label(int(bridges.category[row]))
            raise InputError(f"{bridges.where(row)}: {category} is no category of the tree of domain {domain!r}")
        _, first = np.unique(at, return_index=True)
        if len(first) < len(rows):
            row = int(rows[np.setdiff1d(np.arange(len(rows)), first)[0]])
            category = bridges.label(int(bridges.category[row]))
            raise InputError(f"{bridges.where(row)}: category {category} is bridged already")
        position = np.full(len(forest), -1, np.int64)
        position[at] = nodes[rows]
        for depth in range(2, int(forest.depth.max(initial=0)) + 1):
            inherit = np.flatnonzero((forest.depth == depth) & (position < 0))
            position[inherit] = position[forest.parent[inherit]]
        out[domain] = position
    strangers = np.flatnonzero(~np.isin(bridges.domain.astype(str), list(forests)))
    if len(strangers):
        row = int(strangers[0])
        raise InputError(f"{bridges.where(row)}: domain {bridges.domain[row]!r} has no tree in the taxonomy file")
    return out


def _item_positions(ads: Forest, forests: dict[str, Forest], bridged: dict[str, I64], items: ItemRows) -> I64:
    """Gives the position in `ads` of each item's category, -1 = unmapped."""
    at, found = find_sorted(ads.id, items.category)
    position = np.where(found, at, -1)
    for domain, forest in forests.items():
        rows = np.flatnonzero(items.domain == domain)
        at, found = find_sorted(forest.id, items.category[rows])
        position[rows] = np.where(found, bridged[domain][at], -1) if len(forest) else -1
    return position


def _number(
    ads: Forest, item_position: I64, items: U64, forests: dict[str, Forest], bridged: dict[str, I64]
) -> Taxonomy:
    """Makes the node arrays; the items come ordered by their category's number, then id, unmapped ones last."""
    num_nodes = len(ads) + len(items)
    if num_nodes >= 2**31:
        raise InputError(f"{num_nodes} categories and items are more than a store can number (2**31 - 1)")
    mapped = item_position >= 0
    owned = np.bincount(ads.number[item_position[mapped]], minlength=len(ads))
    before = np.concatenate(([0], np.cumsum(owned)))  # items that stand before the category of each pre-order number
    category_node = ads.number + before[ads.number]
    number_of_category = ads.number[item_position[mapped]]
    item_node = np.arange(len(items)) + len(ads)
    item_node[mapped] = np.arange(int(mapped.sum())) + number_of_category + 1

    parent = np.full(num_nodes, -1, np.int32)
    depth = np.ones(num_nodes, np.uint8)
    end = np.arange(1, num_nodes + 1, dtype=np.uint32)
    is_item = np.zeros(num_nodes, np.bool_)
    ids = np.empty(num_nodes, np.uint64)
    below = ads.parent >= 0
    parent[category_node[below]] = category_node[ads.parent[below]]
    parent[item_node[mapped]] = category_node[item_position[mapped]]
    depth[category_node] = ads.depth
    depth[item_node[mapped]] = ads.depth[item_position[mapped]] + 1
    end[category_node] = ads.end + before[ads.end]
    is_item[item_node] = True
    ids[category_node] = ads.id
    ids[item_node] = items
    assert int(depth.max(initial=0)) <= MAX_DEPTH + 1

    by_id = np.argsort(items)
    domain_nodes = [_nodes_of(bridged[domain], category_node, num_nodes) for domain in forests]
    return Taxonomy(
        parent=parent,
        depth=depth,
        end=end,
        is_item=is_item,
        id=ids,
        category_ids=ads.id,
        category_nodes=category_node.astype(np.uint32),
        item_ids=items[by_id],
        item_nodes=item_node[by_id].astype(np.uint32),
        tree_domains=tuple(forests),
        domain_offsets=np.cumsum([0, *(len(forest) for forest in forests.values())], dtype=np.int64),
        domain_category_ids=np.concatenate([np.empty(0, np.uint64), *(forest.id for forest in forests.values())]),
        domain_category_nodes=np.concatenate([np.empty(0, np.uint32), *domain_nodes]),
    )


def _nodes_of(positions: I64, category_node: I64, unmapped: int) -> U32:
    nodes = np.full(len(positions), unmapped, np.uint32)
    nodes[positions >= 0] = category_node[positions[positions >= 0]]
    return nodes


def no_bridges() -> BridgeRows:
    """Gives the rows of a bridges file that is not there."""
    return BridgeRows(
        domain=np.empty(0, object), category=np.empty(0, np.uint64), node=np.empty(0, np.uint64), where=str
    )


def no_items() -> ItemRows:
    """Gives the rows of an items file that is not there."""
    return ItemRows(item=np.empty(0, np.uint64), category=np.empty(0, np.uint64), domain=np.empty(0, object))
