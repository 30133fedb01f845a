"""Kernels that find the rows of the subtrees above categories: intervals of nodes, and binary searches for many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.kernels.distinct import number_distinct
from store.compiled import kernel, kernel_inline, kernel_no_refcount

if TYPE_CHECKING:
    from store.types import I32, I64, U32


@kernel_inline
def lower_bound(ascending: U32, start: int, stop: int, value: int | np.int64) -> int:
    """Gives the first place in `[start, stop)` with `value` or more; `stop` = there is none."""
    while start < stop:
        middle = (start + stop) >> 1
        if ascending[middle] < value:
            start = middle + 1
        else:
            stop = middle
    return start


@kernel
def climb(categories: U32, parent: I32, ends: U32, num_levels: int) -> tuple[I64, I64, I64, I64, I64]:
    """Finds the intervals of nodes above categories, each once however many categories share it.

    Args:
        categories: Known nodes, in any multiplicity. (X,)
        parent: `Taxonomy.parent`. (num_nodes,)
        ends: `Taxonomy.end`. (num_nodes,)
        num_levels: One more than the ancestors to find, the category itself among them.

    Returns:
        The number of each distinct category, (X,); its intervals, column l that of its l-th ancestor, itself at 1, -1
        beyond the top, column 0 is not used, (X, num_levels); first node and end of each interval, and the number of
        the one that it is a child of, -1 = that is not among them, (A,) each.
    """
    category, first = number_distinct(categories.astype(np.int64))
    above = np.full((len(first), num_levels), -1, np.int64)
    nodes = np.empty(len(first) * num_levels, np.int64)
    count = 0
    for at in range(len(first)):
        node = np.int64(categories[first[at]])
        level = 1
        while node >= 0 and level < num_levels:
            above[at, level] = nodes[count] = node
            count += 1
            node = np.int64(parent[node])
            level += 1
    interval, at_first = number_distinct(nodes[:count])
    inside = np.full(len(at_first), -1, np.int64)
    count = 0
    for at in range(len(first)):
        for level in range(1, num_levels):
            if above[at, level] >= 0:
                above[at, level] = interval[count]
                if level > 1:
                    inside[interval[count - 1]] = interval[count]
                count += 1
    chain = np.empty((len(categories), num_levels), np.int64)
    for at in range(len(categories)):
        for level in range(num_levels):
            chain[at, level] = above[category[at], level]
    low, end = np.empty(len(at_first), np.int64), np.empty(len(at_first), np.int64)
    for at in range(len(at_first)):
        low[at] = nodes[at_first[at]]
        end[at] = ends[low[at]]
    return category, chain, low, end, inside


@kernel_no_refcount
def lower_bounds(node: U32, value: I64, first: I64, stop: I64) -> None:
    """Moves each `first` to the first of the rows `[first, stop)` whose node is `value` or more, or to its `stop`.

    All searches go step by step together: no branch is guessed, and while one waits for memory the others go on.
    """
    widest = 0
    for at in range(len(first)):
        widest = max(widest, stop[at] - first[at])
    step = 1
    while 2 * step <= widest:
        step *= 2
    while widest > 0 and step > 0:
        for at in range(len(first)):
            probe = min(first[at] + step, stop[at])
            first[at] = probe if node[probe - 1] < value[at] else first[at]
        step >>= 1


@kernel
def find_intervals(node: U32, section_start: I64, nodes: I64, ends: I64, inside: I64) -> tuple[I64, I64]:
    """Gives the rows of each node interval in each section, first and past the last: two arrays (A, S).

    The widest come first, those inside them are looked for among their rows, which lie close together.

    Args:
        node: Of each row. (N,)
        section_start: First row of each section, and the end. (S + 1,)
        nodes: First node of each interval. (A,)
        ends: End of each interval. (A,)
        inside: Number of an interval that holds each, -1 = none is known. (A,)
    """
    shape = len(nodes), len(section_start) - 1
    low, high = np.empty(shape, np.int64), np.empty(shape, np.int64)
    room = 2 * shape[0] * shape[1]
    value, first, stop = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    depth, done = 0, 0
    depths = _depths(inside)
    while done < shape[0]:
        count = 0
        for at in range(shape[0]):
            if depths[at] == depth:
                holder = inside[at]
                for section in range(shape[1]):
                    first[count] = first[count + 1] = section_start[section] if holder < 0 else low[holder, section]
                    stop[count] = stop[count + 1] = section_start[section + 1] if holder < 0 else high[holder, section]
                    value[count], value[count + 1] = nodes[at], ends[at]
                    count += 2
        lower_bounds(node, value[:count], first[:count], stop[:count])
        count = 0
        for at in range(shape[0]):
            if depths[at] == depth:
                for section in range(shape[1]):
                    low[at, section], high[at, section] = first[count], first[count + 1]
                    count += 2
                done += 1
        depth += 1
    return low, high


@kernel
def _depths(inside: I64) -> I64:
    """Gives the number of known intervals that hold each. (A,)."""
    depths = np.zeros(len(inside), np.int64)
    for at in range(len(inside)):
        holder = inside[at]
        while holder >= 0:
            depths[at] += 1
            holder = inside[holder]
    return depths
