"""The trees of all domains together: finds every faulty bridge, and says where a category leads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from store.files.arrays import find_sorted
from store.operations.taxonomy_check.report import Case, Finding
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from store.operations.taxonomy_check.tree_check import CheckedTree
    from store.taxonomy.numbering import BridgeRows
    from store.types import I64, U8, U64, Bool, Strings


class Place(IntEnum):
    """Where a category leads."""

    NONE_GIVEN = 0
    UNKNOWN = 1
    """It is no category of its tree."""
    UNBRIDGED = 2
    """It is one of a domain's tree, and neither it nor an ancestor has a bridge."""
    IN_TREE = 3
    """To a category of the ads' tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """Every domain's tree and where it leads; number 0 is the ads' tree, the others ascend by domain."""

    trees: tuple[CheckedTree, ...]
    is_bridged: tuple[Bool, ...]
    """Of each tree, which categories lead to the ads' tree. (C,) each"""

    def number_of(self, domains: Strings) -> I64:
        """Gives the number of the tree in which each domain's categories stand, (N,)."""
        numbers = {tree.rows.domain: number for number, tree in enumerate(self.trees)}
        words, inverse = np.unique(domains.astype(str), return_inverse=True)
        of_word = np.array([numbers.get(word, 0) for word in words.tolist()], np.int64)
        return of_word[inverse] if len(words) else np.empty(0, np.int64)

    def places(self, number: I64, category: U64) -> U8:
        """Gives where categories lead, `Place` numbers.

        Args:
            number: Number of the tree of each. (N,)
            category: Ids, `NO_ID` = none. (N,)
        """
        out = np.full(len(category), Place.UNKNOWN, np.uint8)
        for at, (tree, is_bridged) in enumerate(zip(self.trees, self.is_bridged, strict=True)):
            rows = np.flatnonzero(number == at)
            position, found = find_sorted(tree.id, category[rows])
            known = rows[found]
            out[known] = np.where(is_bridged[position[found]], Place.IN_TREE, Place.UNBRIDGED)
        out[category == NO_ID] = Place.NONE_GIVEN
        return out

    def name(self, number: int, category: int) -> str:
        """Gives what to call a category, whether its tree has it or not."""
        tree = self.trees[number]
        position, found = find_sorted(tree.id, np.array([category], np.uint64))
        name = tree.name(int(position[0])) if found[0] else tree.rows.label(category)
        return f"{name} in {tree.rows.title}"


def join_trees(trees: Mapping[str, CheckedTree], bridges: BridgeRows) -> tuple[Trees, list[Finding]]:
    """Gives the trees with their bridges, and every bridge that is none.

    Args:
        trees: By domain; empty = the ads'.
        bridges: Rows of the bridges file.
    """
    ads = trees[""]
    _, node_found = find_sorted(ads.id, bridges.node)
    has_tree = np.isin(bridges.domain.astype(str), sorted(trees.keys() - {""}))
    row = np.arange(len(bridges.category))
    findings = [
        _finding(bridges, row[~has_tree], "bridge-domain", "a bridge of a domain that has no tree"),
        _finding(bridges, row[~node_found], "bridge-node", "a bridge to what is no category of the ads' tree"),
    ]
    ordered = [ads, *(tree for domain, tree in sorted(trees.items()) if domain)]
    is_bridged = [np.ones(len(ads.id), np.bool_)]
    for tree in ordered[1:]:
        rows = row[bridges.domain == tree.rows.domain]
        at, found = find_sorted(tree.id, bridges.category[rows])
        _, first = np.unique(bridges.category[rows], return_index=True)
        repeated = np.setdiff1d(rows, rows[first])
        stranger = f"a bridge of what is no category of {tree.rows.title}"
        findings.append(_finding(bridges, rows[~found], "bridge-category", stranger))
        findings.append(
            _finding(bridges, repeated, "bridge-twice", f"a second bridge of a category of {tree.rows.title}")
        )
        is_bridged.append(_inherit(tree, at[found & node_found[rows]]))
    return Trees(trees=tuple(ordered), is_bridged=tuple(is_bridged)), [found for found in findings if found.cases]


def _inherit(tree: CheckedTree, own: I64) -> Bool:
    """Gives which categories have a bridge or an ancestor that has one; safe on cycles."""
    bridged = np.zeros(len(tree.id), np.bool_)
    bridged[own] = True
    parent = tree.parent
    while True:
        inherit = ~bridged & (parent >= 0) & bridged[parent]
        if not inherit.any():
            return bridged
        bridged[inherit] = True


def _finding(bridges: BridgeRows, rows: I64, kind: str, message: str) -> Finding:
    cases = tuple(
        Case(f"{bridges.where(row)}: {bridges.domain[row]!r} {bridges.category[row]} -> {bridges.node[row]}")
        for row in sorted(rows.tolist())
    )
    return Finding(kind=kind, is_error=True, message=message, cases=cases)
