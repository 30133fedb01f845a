"""The world of the generated data: the ads' category tree, two domains with trees of their own, bridges and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from store.types import I64

ADS_FANOUT = (6, 4, 4, 3)
CONTENT_FANOUT = (5, 4, 4, 3, 2)
LIVE_FANOUT = (4, 5)
ADS_PER_LEAF = 4
ARTICLES_PER_LEAF = 12
STREAMS_PER_LEAF = 25
MAX_COVERS = 4
GROUP_DEPTH = len(ADS_FANOUT) - 1
"""Depth of the categories just above the leaves of the ads' tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A category tree; node numbers in pre-order."""

    names: tuple[str, ...]
    parent: I64
    """-1 = top level. (nodes,)"""
    depth: I64
    """Top level = 1. (nodes,)"""

    def at_depth(self, depth: int) -> I64:
        """Gives the nodes of one depth."""
        return np.flatnonzero(self.depth == depth)

    def leaves(self) -> I64:
        """Gives the nodes of the greatest depth."""
        return self.at_depth(int(self.depth.max()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The items of one domain, ordered by the leaf of the ads' tree they resolve to (unresolved first)."""

    prefix: str
    category: I64
    """Node in the domain's own tree. (items,)"""
    leaf: I64
    """Leaf node of the ads' tree they resolve to, -1 = none. (items,)"""
    group: I64
    """Node of depth `GROUP_DEPTH` of the ads' tree at or above what they resolve to, -1 = none. (items,)"""

    def names(self) -> list[str]:
        """Gives the item ids."""
        return [f"{self.prefix} {number}" for number in range(len(self.leaf))]

    def draw(self, leaf: I64, draw: np.random.Generator) -> I64:
        """Gives a random item of each leaf, popular ones more often; of any leaf where that one has none."""
        start = np.searchsorted(self.leaf, leaf)
        size = np.searchsorted(self.leaf, leaf, side="right") - start
        known = (leaf >= 0) & (size > 0)
        start, size = np.where(known, start, 0), np.where(known, size, len(self.leaf))
        # The square puts 32 % of the draws on the first tenth of the items.
        return start + (size * draw.random(len(leaf)) ** 2).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that exists before any user does."""

    trees: dict[str, Tree]
    """By domain: ad, content, live."""
    bridges: dict[str, I64]
    """By domain: node of the ads' tree bridged to each of the domain's nodes, -1 = no bridge."""
    items: dict[str, Items]
    covers: I64
    """Articles that the ads cover, one list after another."""
    covers_offsets: I64
    """(ads + 1,)"""


def build_world(draw: np.random.Generator) -> World:
    """Draws the trees' bridges and the items.

    Articles are bridged a level above their leaves, some leaves have a bridge of their own, some branches reach only a
    group or the top of the ads' tree; half the live categories have no bridge at all.
    """
    ads, content, live = grow("ads", ADS_FANOUT), grow("content", CONTENT_FANOUT), grow("live", LIVE_FANOUT)
    bridges = {"content": _content_bridges(ads, content, draw), "live": _live_bridges(ads, live, draw)}
    items = {
        "ad": _items("ad", ads, ads, np.arange(len(ads.names)), ADS_PER_LEAF, draw),
        "content": _items("article", ads, content, bridges["content"], ARTICLES_PER_LEAF, draw),
        "live": _items("stream", ads, live, bridges["live"], STREAMS_PER_LEAF, draw),
    }
    covers, offsets = _covers(items["ad"], items["content"], draw)
    return World(
        trees={"ad": ads, "content": content, "live": live},
        bridges=bridges,
        items=items,
        covers=covers,
        covers_offsets=offsets,
    )


def grow(prefix: str, fanout: tuple[int, ...]) -> Tree:
    """Gives a tree whose nodes of depth d have `fanout[d]` children; names like `ads 2.0.3`."""
    names: list[str] = []
    parent: list[int] = []
    depth: list[int] = []

    def add(path: tuple[int, ...], above: int) -> None:
        for number in range(fanout[len(path)]):
            node, here = len(names), (*path, number)
            names.append(f"{prefix} " + ".".join(map(str, here)))
            parent.append(above)
            depth.append(len(here))
            if len(here) < len(fanout):
                add(here, node)

    add((), -1)
    return Tree(names=tuple(names), parent=np.array(parent, np.int64), depth=np.array(depth, np.int64))


def resolve(tree: Tree, bridge: I64) -> I64:
    """Gives the ads' node of each node's nearest bridged ancestor (itself included), -1 = none; (nodes,)."""
    resolved = bridge.copy()
    # Pre-order puts every parent before its children.
    for node in np.flatnonzero(bridge < 0):
        above = tree.parent[node]
        resolved[node] = resolved[above] if above >= 0 else -1
    return resolved


def _content_bridges(ads: Tree, content: Tree, draw: np.random.Generator) -> I64:
    bridge = np.full(len(content.names), -1, dtype=np.int64)
    topics, leaves = content.at_depth(len(CONTENT_FANOUT) - 1), content.leaves()
    kinds = draw.random(len(topics))
    bridge[topics] = draw.permutation(ads.leaves())[: len(topics)]
    to_group = topics[kinds < 0.1]
    bridge[to_group] = draw.choice(ads.at_depth(GROUP_DEPTH), len(to_group))
    bridge[topics[kinds > 0.95]] = -1
    own = draw.choice(leaves, len(leaves) // 5, replace=False)
    bridge[own] = draw.choice(ads.leaves(), len(own))
    tops = content.at_depth(1)
    bridge[tops] = draw.choice(ads.at_depth(1), len(tops))
    return bridge


def _live_bridges(ads: Tree, live: Tree, draw: np.random.Generator) -> I64:
    bridge = np.full(len(live.names), -1, dtype=np.int64)
    bridged = draw.choice(live.leaves(), len(live.leaves()) // 2, replace=False)
    bridge[bridged] = draw.choice(ads.leaves(), len(bridged), replace=False)
    return bridge


def _items(prefix: str, ads: Tree, own: Tree, bridge: I64, per_leaf: int, draw: np.random.Generator) -> Items:
    category = draw.permutation(np.repeat(own.leaves(), per_leaf))
    node = resolve(own, bridge)[category]
    is_leaf = (node >= 0) & (ads.depth[node] == len(ADS_FANOUT))
    leaf = np.where(is_leaf, node, -1)
    group = np.where(is_leaf, ads.parent[node], np.where((node >= 0) & (ads.depth[node] == GROUP_DEPTH), node, -1))
    order = np.argsort(leaf, kind="stable")
    return Items(prefix=prefix, category=category[order], leaf=leaf[order], group=group[order])


def _covers(ads: Items, articles: Items, draw: np.random.Generator) -> tuple[I64, I64]:
    """Gives each ad up to `MAX_COVERS` articles of its own leaf; none where no article resolves to it."""
    lists: list[I64] = []
    for leaf in ads.leaf.tolist():
        first, last = np.searchsorted(articles.leaf, [leaf, leaf + 1])
        wanted = min(int(draw.integers(1, MAX_COVERS + 1)), int(last - first))
        lists.append(np.sort(first + draw.permutation(last - first)[:wanted]))
    offsets = np.concatenate(([0], np.cumsum([len(covered) for covered in lists])))
    return np.concatenate(lists).astype(np.int64), offsets.astype(np.int64)
