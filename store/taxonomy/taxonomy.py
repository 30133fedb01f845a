"""The taxonomy in pre-order, items as its deepest level: every subtree is one interval of node numbers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from store.errors import CorruptGenerationError
from store.files.arrays import find_sorted, load_array, save_array
from store.lists import Lists
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from store.fields import IdLists
    from store.types import I32, I64, U8, U32, U64, Bool

_DTYPES = {
    "parent": np.int32,
    "depth": np.uint8,
    "end": np.uint32,
    "is_item": np.bool_,
    "id": np.uint64,
    "category_ids": np.uint64,
    "category_nodes": np.uint32,
    "item_ids": np.uint64,
    "item_nodes": np.uint32,
    "domain_offsets": np.int64,
    "domain_category_ids": np.uint64,
    "domain_category_nodes": np.uint32,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taxonomy:
    """The ads' category tree with the known items under it, numbered in pre-order.

    Example::

        node  category or item        parent  depth  end  is_item
        0     food                    -1      1      5    no
        1     |-- item 900             0      2      2    yes      items stand before the child categories
        2     `-- fruit                0      2      5    no
        3         |-- item 7           2      3      4    yes
        4         `-- item 8           2      3      5    yes
        5     home                    -1      1      6    no       num_tree_nodes = 6
        6     item 55                 -1      1      7    yes      its category is unmapped: after the tree
        7     unmapped                                             num_nodes = 7: no node, only a number

    `[node, end[node])` is a node's subtree. Immutable and thread-safe; the arrays may be views into mapped files.
    """

    parent: I32
    """Node above; -1 = none. (num_nodes,)"""
    depth: U8
    """Top level = 1. (num_nodes,)"""
    end: U32
    """One past the subtree. (num_nodes,)"""
    is_item: Bool
    id: U64
    """Category or item id. (num_nodes,)"""
    category_ids: U64
    """Ids of the ads' categories, ascending; `category_nodes` are their nodes."""
    category_nodes: U32
    item_ids: U64
    """Ids of the known items, ascending; `item_nodes` are their nodes."""
    item_nodes: U32
    tree_domains: tuple[str, ...]
    """Domains that have a category tree of their own, ascending."""
    domain_offsets: I64
    """Where each of them starts in the two columns below. (len(tree_domains) + 1,)"""
    domain_category_ids: U64
    """Ids of that domain's categories, ascending within the domain."""
    domain_category_nodes: U32
    """Node of each one's nearest bridged ancestor; `unmapped` = none is bridged."""

    @property
    def num_nodes(self) -> int:
        """Number of nodes, items whose category is unmapped too."""
        return len(self.parent)

    @property
    def num_tree_nodes(self) -> int:
        """Number of nodes of the tree: items whose category is unmapped stand at `[num_tree_nodes, num_nodes)`."""
        return int(self.end[self.category_nodes].max(initial=0))

    @property
    def unmapped(self) -> int:
        """Number that stands for no node."""
        return self.num_nodes

    @property
    def max_depth(self) -> int:
        """Levels of the deepest node."""
        return int(self.depth.max(initial=0))

    def item_node(self, ids: U64) -> U32:
        """Gives the nodes of items; `unmapped` where unknown.

        Args:
            ids: Item ids. (N,)
        """
        return self._look_up(self.item_ids, self.item_nodes, ids)

    def category_node(self, ids: U64, domain: str | None = None) -> U32:
        """Gives the nodes that categories stand for; `unmapped` where unknown.

        Args:
            ids: Category ids. (N,)
            domain: In whose tree they stand. In a domain with a tree of its own a category is its nearest bridged
                ancestor; None, or a domain without one, means the ads' tree.
        """
        if domain is None or domain not in self.tree_domains:
            return self._look_up(self.category_ids, self.category_nodes, ids)
        at = self.tree_domains.index(domain)
        rows = slice(int(self.domain_offsets[at]), int(self.domain_offsets[at + 1]))
        return self._look_up(self.domain_category_ids[rows], self.domain_category_nodes[rows], ids)

    def category_of(self, nodes: U32) -> U64:
        """Gives the id of the category that each node is or hangs under; `NO_ID` = none.

        Args:
            nodes: Node numbers or `unmapped`. (N,)
        """
        out = np.full(len(nodes), NO_ID, np.uint64)
        category = self._category_node_of(nodes)
        out[category >= 0] = self.id[category[category >= 0]]
        return out

    def ancestors(self, nodes: U32, levels: int) -> U32:
        """Gives the chain from each node upward, `unmapped` where it does not reach.

        Column 0 is the node itself if it is an item, column 1 its category (itself, if it is one), column 2 that
        one's parent, and so on.

        Args:
            nodes: Node numbers or `unmapped`. (N,)
            levels: Number of columns.

        Returns:
            Node numbers. (N, levels)
        """
        out = np.full((len(nodes), levels), self.unmapped, np.uint32)
        at = nodes.astype(np.int64)
        known = np.flatnonzero(at < self.unmapped)
        if levels:
            items = known[self.is_item[at[known]]]
            out[items, 0] = nodes[items]
        climb = self._category_node_of(nodes)
        for level in range(1, levels):
            rows = np.flatnonzero(climb >= 0)
            out[rows, level] = climb[rows]
            climb[rows] = self.parent[climb[rows]]
        return out

    def categories_above(self, ids: U64) -> IdLists:
        """Gives the ids of the categories above each one, the nearest first; none above the top and the unknown.

        Args:
            ids: Ids of categories of the ads' tree. (N,)
        """
        nodes = self.category_node(ids)
        deepest = int(self.depth[nodes[nodes < self.unmapped]].max(initial=0))
        chain = self.ancestors(nodes, deepest + 1)[:, 2:]
        above = chain < self.unmapped
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.count_nonzero(above, axis=1))))
        return Lists(values=self.id[chain[above]], offsets=offsets)

    def fingerprint(self) -> str:
        """Gives a sha256 over all arrays: equal exactly for equal numberings. Reads every array."""
        digest = hashlib.sha256("\0".join(self.tree_domains).encode())
        for name in _DTYPES:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Writes one .npy file per array. The names of `tree_domains` go into the manifest, by the caller."""
        for name in _DTYPES:
            save_array(folder / f"{name}.npy", getattr(self, name))

    @staticmethod
    def load(folder: Path, tree_domains: Sequence[str]) -> Taxonomy:
        """Maps what `save` wrote.

        Raises:
            CorruptGenerationError: A file is no such array, or the arrays' lengths do not fit together.
        """
        arrays = {name: load_array(folder / f"{name}.npy", dtype) for name, dtype in _DTYPES.items()}
        taxonomy = Taxonomy(tree_domains=tuple(tree_domains), **arrays)
        problem = taxonomy.find_length_problem()
        if problem:
            raise CorruptGenerationError(f"{folder}: {problem}; run `lookback-store ingest` again")
        return taxonomy

    def find_length_problem(self) -> str | None:
        """Gives what does not fit between the lengths of the arrays; None when all fit. O(1)."""
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        groups = (
            ("parent", "depth", "end", "is_item", "id"),
            ("category_ids", "category_nodes"),
            ("item_ids", "item_nodes"),
            ("domain_category_ids", "domain_category_nodes"),
        )
        for group in groups:
            if len({lengths[name] for name in group}) > 1:
                return f"the arrays {', '.join(group)} differ in length"
        if lengths["category_ids"] + lengths["item_ids"] != self.num_nodes:
            return f"{self.num_nodes} nodes, but {lengths['category_ids']} categories and {lengths['item_ids']} items"
        if lengths["domain_offsets"] != len(self.tree_domains) + 1:
            return f"{lengths['domain_offsets']} domain offsets for {len(self.tree_domains)} domains"
        if int(self.domain_offsets[-1]) != lengths["domain_category_ids"]:
            return "the domain offsets do not end where the domains' categories end"
        return None

    def _look_up(self, keys: U64, nodes: U32, ids: U64) -> U32:
        out = np.full(len(ids), self.unmapped, np.uint32)
        at, found = find_sorted(keys, ids)
        out[found] = nodes[at[found]]
        return out

    def _category_node_of(self, nodes: U32) -> I64:
        out = np.full(len(nodes), -1, np.int64)
        known = np.flatnonzero(nodes < self.unmapped)
        at = nodes[known].astype(np.int64)
        out[known] = np.where(self.is_item[at], self.parent[at], at)
        return out
