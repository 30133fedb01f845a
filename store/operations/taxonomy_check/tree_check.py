"""One category tree as rows, looked at whole: finds every fault of it, where `build_forest` stops at the first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.files.arrays import find_sorted
from store.operations.taxonomy_check.report import Case, Finding, TreeShape
from store.taxonomy.tree import MAX_DEPTH
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.types import I64, U64, Bool, Strings


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeRows:
    """Rows of one domain's tree as they stand in the input, good or not."""

    domain: str
    """Empty = the ads' tree."""
    category: U64
    parent: U64
    """`NO_ID` = top level."""
    name: Strings
    """Empty = none."""
    where: Callable[[int], str]
    """Gives the file and line of a row."""
    label: Callable[[int], str]
    """Gives a category id as it stood in the input."""

    @property
    def title(self) -> str:
        """What to call the tree."""
        return f"the tree of domain {self.domain!r}" if self.domain else "the ads' tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTree:
    """What is left of a tree when faults are set aside: the first row of each category, absent parents as none."""

    rows: TreeRows
    id: U64
    """Distinct, ascending. (C,)"""
    row: I64
    """First row of each. (C,)"""
    parent: I64
    """Position in `id`; -1 = top level, or the parent is absent. (C,)"""
    depth: I64
    """Top level = 1; 0 = a cycle keeps it from having one. (C,)"""

    def name(self, at: int) -> str:
        """Gives what to call a category in a report."""
        label, name = self.rows.label(int(self.id[at])), str(self.rows.name[self.row[at]])
        return f"{label} ({name})" if name and name != label else label

    def leaves(self) -> Bool:
        """Gives which categories are no category's parent, (C,)."""
        is_leaf = np.ones(len(self.id), np.bool_)
        is_leaf[self.parent[self.parent >= 0]] = False
        return is_leaf

    def shape(self) -> TreeShape:
        """Gives the shape."""
        depths, counts = np.unique(self.depth[self.leaves() & (self.depth > 0)], return_counts=True)
        return TreeShape(
            domain=self.rows.domain,
            num_categories=len(self.id),
            num_top=int(np.count_nonzero(self.parent < 0)),
            leaf_depths=dict(zip(depths.tolist(), counts.tolist(), strict=True)),
        )


def check_tree(rows: TreeRows) -> tuple[CheckedTree, list[Finding]]:
    """Gives the tree and all that is wrong with it, or odd: no case hides another one."""
    ids, first = np.unique(rows.category, return_index=True)
    parent_id = rows.parent[first]
    at, found = find_sorted(ids, parent_id)
    has_parent = parent_id != NO_ID
    parent = np.where(has_parent & found, at, -1)
    tree = CheckedTree(rows=rows, id=ids, row=first, parent=parent, depth=depths(parent))
    findings = [
        _repeated(tree),
        _orphans(tree, np.flatnonzero(has_parent & ~found)),
        _cycles(tree),
        _too_deep(tree),
        _same_names(tree),
        _ragged(tree),
    ]
    return tree, [finding for finding in findings if finding.cases]


def depths(parent: I64) -> I64:
    """Gives the depth of every node of a forest, the top level being 1; 0 on a cycle and below one.

    Args:
        parent: Position of each node's parent, -1 = none. (C,)
    """
    # Pointer jumping: after k rounds a node has climbed 2**k steps, so that a chain of any length costs a logarithm.
    top = len(parent)
    jump = np.append(np.where(parent < 0, top, parent), top)
    depth = np.append(np.ones(len(parent), np.int64), 0)
    for _ in range(len(parent).bit_length()):
        depth = depth + depth[jump]
        jump = jump[jump]
    return np.where(jump[:-1] == top, depth[:-1], 0)


def cycles(parent: I64) -> list[list[int]]:
    """Gives every cycle of a graph in which each node has at most one parent, as nodes from child to parent.

    Each starts at its smallest node; they are ordered by it.

    Args:
        parent: Position of each node's parent, -1 = none. (C,)
    """
    color = np.where(depths(parent) > 0, 2, 0)  # 0 new, 1 on the path being walked, 2 done
    out: list[list[int]] = []
    for start in np.flatnonzero(color == 0).tolist():
        path: list[int] = []
        at = start
        while color[at] == 0:
            color[at] = 1
            path.append(at)
            at = int(parent[at])
        if color[at] == 1:
            loop = path[path.index(at) :]
            smallest = loop.index(min(loop))
            out.append(loop[smallest:] + loop[:smallest])
        color[path] = 2
    return sorted(out)


def _repeated(tree: CheckedTree) -> Finding:
    rows = tree.rows
    later = np.setdiff1d(np.arange(len(rows.category)), tree.row)
    first = tree.row[np.searchsorted(tree.id, rows.category[later])]
    cases = tuple(
        Case(f"{rows.where(int(row))}: {rows.label(int(rows.category[row]))} stands already at {rows.where(int(of))}")
        for row, of in zip(later, first, strict=True)
    )
    return Finding(kind="duplicate-category", is_error=True, message=f"a category twice in {rows.title}", cases=cases)


def _orphans(tree: CheckedTree, orphans: I64) -> Finding:
    rows = tree.rows
    cases = tuple(
        Case(f"{rows.where(row)}: parent {rows.label(int(rows.parent[row]))} of {rows.label(int(rows.category[row]))}")
        for row in sorted(tree.row[orphans].tolist())
    )
    return Finding(kind="orphan", is_error=True, message=f"a parent that is no category of {rows.title}", cases=cases)


def _cycles(tree: CheckedTree) -> Finding:
    cases: list[Case] = []
    lost = int(np.count_nonzero(tree.depth == 0))
    loops = cycles(tree.parent)
    for loop in loops:
        chain = " -> ".join(tree.name(at) for at in [*loop, loop[0]])
        cases.append(Case(f"{tree.rows.where(int(tree.row[loop[0]]))}: {chain}"))
    below = lost - sum(map(len, loops))
    suffix = f"; {below:,} more hang below one" if below else ""
    return Finding(
        kind="cycle",
        is_error=True,
        message=f"categories of {tree.rows.title} that are their own ancestors{suffix}",
        cases=tuple(cases),
    )


def _too_deep(tree: CheckedTree) -> Finding:
    cases = tuple(
        Case(f"{tree.rows.where(int(tree.row[at]))}: {tree.name(at)} at depth {tree.depth[at]}")
        for at in np.flatnonzero(tree.depth > MAX_DEPTH).tolist()
    )
    message = f"a category of {tree.rows.title} deeper than {MAX_DEPTH} levels"
    return Finding(kind="too-deep", is_error=True, message=message, cases=cases)


def _same_names(tree: CheckedTree) -> Finding:
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for at, row in enumerate(tree.row.tolist()):
        name = str(tree.rows.name[row])
        if name:
            by_name[name].append(at)
    cases: list[Case] = []
    for name, places in sorted(by_name.items()):
        if len(places) > 1:
            listed = "; ".join(f"{_label(tree, at)} under {_label(tree, int(tree.parent[at]))}" for at in places)
            cases.append(Case(f"{name!r}: {listed}"))
    message = f"one name for several categories of {tree.rows.title}: reports cannot tell them apart"
    return Finding(kind="duplicate-name", is_error=False, message=message, cases=tuple(cases))


def _ragged(tree: CheckedTree) -> Finding:
    histogram = tree.shape().leaf_depths
    cases = tuple(Case(f"depth {depth}: {count:,} leaves") for depth, count in histogram.items())
    message = f"leaves of different depth in {tree.rows.title}: one match level means different things"
    return Finding(kind="ragged", is_error=False, message=message, cases=cases if len(cases) > 1 else ())


def _label(tree: CheckedTree, at: int) -> str:
    return tree.rows.label(int(tree.id[at])) if at >= 0 else "no other"
