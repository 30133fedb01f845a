"""Kernels that find the rows of a history that match candidates level by level; `levels.py` says what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.compiled import compiled

if TYPE_CHECKING:
    from store.types import I32, I64, U32

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Of a multiplicative hash. Source: Knuth, The Art of Computer Programming, volume 3, section 6.4."""
_HASH_SHIFT = np.uint64(40)


@compiled
def lower_bound(node: U32, start: int, stop: int, value: int | np.int64) -> int:
    """Gives the first of the rows `[start, stop)` whose node is `value` or more; `stop` = there is none."""
    while start < stop:
        middle = (start + stop) >> 1
        if node[middle] < value:
            start = middle + 1
        else:
            stop = middle
    return start


@compiled
def number_distinct(values: I64) -> tuple[I64, I64]:
    """Numbers the distinct values in the order of their first occurrence.

    Args:
        values: 0 or more. (N,)

    Returns:
        The number of each value, (N,); where each number occurs first, (K,).
    """
    size = 16
    while size < 2 * len(values):
        size *= 2
    slots = np.full(size, -1, np.int64)
    number, first = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
    count = 0
    for at in range(len(values)):
        value = values[at]
        slot = np.int64((np.uint64(value) * _MULTIPLIER) >> _HASH_SHIFT) & (size - 1)
        while slots[slot] >= 0 and values[first[slots[slot]]] != value:
            slot = (slot + 1) & (size - 1)
        if slots[slot] < 0:
            slots[slot] = count
            first[count] = at
            count += 1
        number[at] = slots[slot]
    return number, first[:count].copy()


@compiled
def climb(categories: U32, parent: I32, ends: U32, num_levels: int) -> tuple[I64, I64, I64, I64]:
    """Finds the intervals of nodes above categories, each once however many categories share it.

    Args:
        categories: Known nodes, in any multiplicity. (X,)
        parent: `Taxonomy.parent`. (num_nodes,)
        ends: `Taxonomy.end`. (num_nodes,)
        num_levels: One more than the ancestors to find, the category itself among them.

    Returns:
        The number of each distinct category, (X,); its intervals, column l that of its l-th ancestor, itself at 1, -1
        beyond the top, column 0 is not used, (X, num_levels); first node and end of each interval, (A,) each.
    """
    category, first = number_distinct(categories.astype(np.int64))
    above = np.full((len(first), num_levels), -1, np.int64)
    nodes = np.empty(len(first) * num_levels, np.int64)
    met = 0
    for at in range(len(first)):
        node = np.int64(categories[first[at]])
        level = 1
        while node >= 0 and level < num_levels:
            above[at, level] = nodes[met] = node
            met += 1
            node = np.int64(parent[node])
            level += 1
    interval, at_first = number_distinct(nodes[:met])
    met = 0
    for at in range(len(first)):
        for level in range(1, num_levels):
            if above[at, level] >= 0:
                above[at, level] = interval[met]
                met += 1
    chain = np.empty((len(categories), num_levels), np.int64)
    for at in range(len(categories)):
        chain[at] = above[category[at]]
    low, end = np.empty(len(at_first), np.int64), np.empty(len(at_first), np.int64)
    for at in range(len(at_first)):
        low[at] = nodes[at_first[at]]
        end[at] = ends[low[at]]
    return category, chain, low, end


@compiled
def find_intervals(node: U32, section_start: I64, nodes: I64, ends: I64) -> tuple[I64, I64]:
    """Gives the rows of each node interval in each section, first and past the last: two arrays (A, S)."""
    num_sections = len(section_start) - 1
    low = np.empty((len(nodes), num_sections), np.int64)
    high = np.empty((len(nodes), num_sections), np.int64)
    for section in range(num_sections):
        start, stop = section_start[section], section_start[section + 1]
        for at in range(len(nodes)):
            low[at, section] = lower_bound(node, start, stop, nodes[at])
            high[at, section] = lower_bound(node, low[at, section], stop, ends[at])
    return low, high


@compiled
def find_own(
    node: U32,
    rank: U32,
    cut: int,
    section_start: I64,
    nodes: U32,
    offsets: I64,
    chain_start: I64,
    chain: I64,
    interval_node: I64,
    interval_end: I64,
    low: I64,
    high: I64,
    unmapped: int,
) -> tuple[I64, I64, I64, I64]:
    """Gives the rows before the cut of each candidate's own nodes.

    Args:
        node: Of each row. (N,)
        rank: Of each row. (N,)
        cut: Behaviors that exist.
        section_start: First row of each section, and the end. (S + 1,)
        nodes: Own nodes of the candidates, one list after another, no duplicates. (M,)
        offsets: Where each candidate's list starts, and the end. (C + 1,)
        chain_start: Where each candidate's categories start in `chain`, and the end: the interval of the first one is
            likely to hold the candidate's nodes, so that less is searched. (C + 1,)
        chain: See `climb`. (X, L)
        interval_node: First node of each interval. (A,)
        interval_end: End of each interval. (A,)
        low: First row of each interval in each section. (A, S)
        high: End. (A, S)
        unmapped: Number of no node, which has no rows for this purpose.

    Returns:
        Where each candidate's ranges start in the other three, and the end, (C + 1,); the section, the first row and
        the end of each range.
    """
    num_sections = len(section_start) - 1
    starts = np.zeros(len(offsets), np.int64)
    room = 64
    section_of, first, end = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    for candidate in range(len(offsets) - 1):
        near = np.int64(-1)
        if chain_start[candidate] < chain_start[candidate + 1]:
            near = chain[chain_start[candidate], 1]
        for at in range(offsets[candidate], offsets[candidate + 1]):
            own = np.int64(nodes[at])
            if own >= unmapped:
                continue
            is_near = near >= 0 and interval_node[near] <= own < interval_end[near]
            for section in range(num_sections):
                start = low[near, section] if is_near else section_start[section]
                stop = high[near, section] if is_near else section_start[section + 1]
                row = lower_bound(node, start, stop, own)
                if row == stop or node[row] != own or rank[row] >= cut:
                    continue
                if count == room:
                    section_of = np.concatenate((section_of, np.empty(room, np.int64)))
                    first = np.concatenate((first, np.empty(room, np.int64)))
                    end = np.concatenate((end, np.empty(room, np.int64)))
                    room *= 2
                section_of[count], first[count] = section, row
                end[count] = end_before(rank, row, lower_bound(node, row, stop, own + 1), cut)
                count += 1
        starts[candidate + 1] = count
    return starts, section_of[:count].copy(), first[:count].copy(), end[:count].copy()


@compiled
def end_before(rank: U32, start: int, stop: int, cut: int) -> int:
    """Gives the end of those rows of one node `[start, stop)` that stand before the cut: they are the first of them."""
    if rank[stop - 1] < cut:
        return stop
    while start < stop:
        middle = (start + stop) >> 1
        if rank[middle] < cut:
            start = middle + 1
        else:
            stop = middle
    return start
