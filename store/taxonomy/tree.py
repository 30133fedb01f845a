"""A forest of categories in pre-order: checks that the rows are trees, and numbers them. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.errors import InputError
from store.files.arrays import find_sorted
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.types import I64, U64

MAX_DEPTH = 250
"""Levels a tree may have; depths and match levels are one byte, and 255 is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Categories by ascending id, with their pre-order numbers; children of one parent are numbered by id.

    Example::

    10           id      10 20 30 40 50
    |-- 30       parent  -1 -1  0  2  0      position in `id`
    |   `-- 40   number   0  4  1  2  3
    `-- 50       end      4  5  3  3  4      the subtree is the numbers [number, end)
    20           depth    1  1  2  3  2
    """

    id: U64
    parent: I64
    number: I64
    end: I64
    depth: I64

    def __len__(self) -> int:
        return len(self.id)


def build_forest(ids: U64, parents: U64, where: Callable[[int], str], label: Callable[[int], str] = str) -> Forest:
    """Numbers categories in pre-order.

    Args:
        ids: Category ids. (K,)
        parents: Id of each one's parent; `NO_ID` = top level. (K,)
        where: Gives the file and line of a row, for error messages.
        label: Gives an id as it stood in the input, for error messages.

    Raises:
        InputError: A category stands twice, a parent is no category, the rows form a cycle, or a tree is deeper than
            `MAX_DEPTH`; the message names the row.
    """
    order = np.argsort(ids, kind="stable")
    sorted_ids = ids[order]
    twice = np.flatnonzero(sorted_ids[1:] == sorted_ids[:-1])
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        category = label(int(ids[second]))
        raise InputError(f"{where(int(second))}: category {category} stands already at {where(int(first))}")
    has_parent = parents[order] != NO_ID
    parent, found = find_sorted(sorted_ids, parents[order])
    orphans = np.flatnonzero(has_parent & ~found)
    if len(orphans):
        row = int(order[orphans].min())
        parent_text, text = label(int(parents[row])), label(int(ids[row]))
        raise InputError(f"{where(row)}: parent {parent_text} of category {text} is no category of this tree")
    parent = np.where(has_parent, parent, -1)
    depth = _depths(parent, lambda at: f"{where(int(order[at]))}: category {label(int(sorted_ids[at]))}")
    number, end = _pre_order(parent, depth)
    return Forest(id=sorted_ids, parent=parent, number=number, end=end, depth=depth)


def _depths(parent: I64, name: Callable[[int], str]) -> I64:
    depth = np.where(parent < 0, 1, 0)
    level = 1
    while True:
        reached = (depth == 0) & (depth[parent] == level)
        if not reached.any():
            break
        level += 1
        if level > MAX_DEPTH:
            raise InputError(f"{name(int(np.flatnonzero(reached)[0]))} lies deeper than {MAX_DEPTH} levels")
        depth[reached] = level
    unreached = np.flatnonzero(depth == 0)
    if len(unreached):
        at = int(unreached[0])
        for _ in range(len(parent)):  # from below a cycle, climb into it
            at = int(parent[at])
        raise InputError(f"{name(at)} is its own ancestor: the parents form a cycle")
    return depth


def _pre_order(parent: I64, depth: I64) -> tuple[I64, I64]:
    size = np.ones(len(parent), np.int64)
    max_depth = int(depth.max(initial=0))
    for level in range(max_depth, 1, -1):
        rows = np.flatnonzero(depth == level)
        np.add.at(size, parent[rows], size[rows])
    number = np.zeros(len(parent), np.int64)
    for level in range(1, max_depth + 1):
        rows = np.flatnonzero(depth == level)
        rows = rows[np.argsort(parent[rows], kind="stable")]
        before = np.cumsum(size[rows]) - size[rows]
        first_child = np.searchsorted(parent[rows], parent[rows], side="left")
        above = number[parent[rows]] + 1 if level > 1 else 0
        number[rows] = above + before - before[first_child]
    return number, number + size
