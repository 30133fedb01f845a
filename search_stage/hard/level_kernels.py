"""Kernels that find the rows of a history that match candidates level by level; `levels.py` says what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.kernels.compiled import kernel, kernel_inline, kernel_no_refcount
from search_stage.kernels.distinct import number_distinct

if TYPE_CHECKING:
    from store.types import I32, I64, U32

_NODES_AT_ONCE = 128
"""Own nodes that are searched together."""


class Intervals(NamedTuple):
    """The subtrees above the candidates' categories, and the rows in them."""

    chain_start: I64
    """Where each candidate's chains start in the next two, and the end. (C + 1,)"""
    category: I64
    """Number of the category that each chain climbs from. (X,)"""
    chain: I64
    """Interval of each chain at each level, -1 = beyond the top; column 0 is not used. (X, L)"""
    node: I64
    """First node of each interval. (A,)"""
    end: I64
    """End of each interval, exclusive. (A,)"""
    low: I64
    """First row of each interval in each section. (A, S)"""
    high: I64
    """End. (A, S)"""


class OwnRows(NamedTuple):
    """The rows of the candidates' own nodes before the cut, as ranges of rows of one node."""

    start: I64
    """Where each candidate's ranges start in the next three, and the end. (C + 1,)"""
    section: I64
    """(P,)"""
    low: I64
    """(P,)"""
    high: I64
    """(P,)"""


class _Searches(NamedTuple):
    """Searches for own nodes. (n,) each."""

    value: I64
    first: I64
    stop: I64
    section: I64
    owner: I64


@kernel_no_refcount
def lower_bound(node: U32, start: int, stop: int, value: int | np.int64) -> int:
    """Gives the first of the rows `[start, stop)` whose node is `value` or more; `stop` = there is none."""
    while start < stop:
        middle = (start + stop) >> 1
        if node[middle] < value:
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
    over = np.full(len(at_first), -1, np.int64)
    met = 0
    for at in range(len(first)):
        for level in range(1, num_levels):
            if above[at, level] >= 0:
                above[at, level] = interval[met]
                if level > 1:
                    over[interval[met - 1]] = interval[met]
                met += 1
    chain = np.empty((len(categories), num_levels), np.int64)
    for at in range(len(categories)):
        for level in range(num_levels):
            chain[at, level] = above[category[at], level]
    low, end = np.empty(len(at_first), np.int64), np.empty(len(at_first), np.int64)
    for at in range(len(at_first)):
        low[at] = nodes[at_first[at]]
        end[at] = ends[low[at]]
    return category, chain, low, end, over


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
def find_intervals(node: U32, section_start: I64, nodes: I64, ends: I64, over: I64) -> tuple[I64, I64]:
    """Gives the rows of each node interval in each section, first and past the last: two arrays (A, S).

    The widest come first, those inside them are looked for among their rows, which lie close together.

    Args:
        node: Of each row. (N,)
        section_start: First row of each section, and the end. (S + 1,)
        nodes: First node of each interval. (A,)
        ends: End of each interval. (A,)
        over: Number of an interval that holds each, -1 = none is known. (A,)
    """
    shape = len(nodes), len(section_start) - 1
    low, high = np.empty(shape, np.int64), np.empty(shape, np.int64)
    room = 2 * shape[0] * shape[1]
    value, first, stop = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    depth, done = 0, 0
    depths = _depths(over)
    while done < shape[0]:
        count = 0
        for at in range(shape[0]):
            if depths[at] == depth:
                holder = over[at]
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
def _depths(over: I64) -> I64:
    """Gives the number of known intervals that hold each. (A,)."""
    depths = np.zeros(len(over), np.int64)
    for at in range(len(over)):
        holder = over[at]
        while holder >= 0:
            depths[at] += 1
            holder = over[holder]
    return depths


@kernel
def find_rows(
    node: U32,
    rank: U32,
    cut: int,
    section_start: I64,
    categories: U32,
    chain_start: I64,
    own_nodes: U32,
    own_offsets: I64,
    parent: I32,
    ends: U32,
    num_levels: int,
) -> tuple[Intervals, OwnRows]:
    """Finds the rows that match candidates at each level.

    Args:
        node: Of each row. (N,)
        rank: Of each row. (N,)
        cut: Behaviors that exist.
        section_start: First row of each section, and the end. (S + 1,)
        categories: `ResolvedCandidates.category_node`. (X,)
        chain_start: `ResolvedCandidates.category_offsets`. (C + 1,)
        own_nodes: Own nodes of the candidates, one list after another, no duplicates. (M,)
        own_offsets: Where each candidate's list starts, and the end. (C + 1,)
        parent: `Taxonomy.parent`. (num_nodes,)
        ends: `Taxonomy.end`. (num_nodes,)
        num_levels: One more than the ancestors to find, the category itself among them.
    """
    category, chain, first, end, over = climb(categories, parent, ends, num_levels)
    low, high = find_intervals(node, section_start, first, end, over)
    intervals = Intervals(chain_start, category, chain, first, end, low, high)
    return intervals, _find_own(node, rank, cut, section_start, own_nodes, own_offsets, intervals, len(parent))


@kernel
def _find_own(
    node: U32,
    rank: U32,
    cut: int,
    section_start: I64,
    nodes: U32,
    offsets: I64,
    intervals: Intervals,
    unmapped: int,
) -> OwnRows:
    """Finds the rows of own nodes, many together; nodes from `unmapped` on have no rows for this purpose."""
    room = _NODES_AT_ONCE * (len(section_start) - 1)
    searches = _Searches(
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
    )
    start, count = np.zeros(len(offsets), np.int64), 0
    section_of, low, high = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    for begin in range(0, len(nodes), _NODES_AT_ONCE):
        found = _search_own(node, rank, cut, section_start, nodes, offsets, intervals, unmapped, begin, searches)
        if count + found > len(low):
            section_of = np.concatenate((section_of, np.empty(count + room, np.int64)))
            low = np.concatenate((low, np.empty(count + room, np.int64)))
            high = np.concatenate((high, np.empty(count + room, np.int64)))
        section_of[count : count + found] = searches.section[:found]
        low[count : count + found], high[count : count + found] = searches.first[:found], searches.stop[:found]
        for at in range(found):
            start[searches.owner[at] + 1] += 1
        count += found
    return OwnRows(np.cumsum(start), section_of[:count].copy(), low[:count].copy(), high[:count].copy())


@kernel_no_refcount
def _search_own(
    node: U32,
    rank: U32,
    cut: int,
    section_start: I64,
    nodes: U32,
    offsets: I64,
    intervals: Intervals,
    unmapped: int,
    begin: int,
    searches: _Searches,
) -> int:
    """Searches for some own nodes from `begin` on; puts what is found in front and gives its number."""
    count, found, candidate = 0, 0, int(np.searchsorted(offsets, begin, "right")) - 1
    for at in range(begin, min(begin + _NODES_AT_ONCE, len(nodes))):
        while offsets[candidate + 1] <= at:
            candidate += 1
        if nodes[at] < unmapped:
            count = _add_searches(nodes[at], candidate, section_start, intervals, searches, count)
    lower_bounds(node, searches.value[:count], searches.first[:count], searches.stop[:count])
    for at in range(count):
        own, row, stop = searches.value[at], searches.first[at], searches.stop[at]
        if row < stop and node[row] == own and rank[row] < cut:
            searches.first[found] = row
            searches.stop[found] = end_before(rank, row, lower_bound(node, row, stop, own + 1), cut)
            searches.section[found], searches.owner[found] = searches.section[at], searches.owner[at]
            found += 1
    return found


@kernel_inline
def _add_searches(
    own: np.uint32, candidate: int, section_start: I64, intervals: Intervals, searches: _Searches, count: int
) -> int:
    """Adds the sections where an own node may be; the interval of the main category, if it holds it, says where."""
    near, first = np.int64(-1), intervals.chain_start[candidate]
    if first < intervals.chain_start[candidate + 1]:
        near = intervals.chain[first, 1]
    is_near = near >= 0 and intervals.node[near] <= own < intervals.end[near]
    for section in range(len(section_start) - 1):
        start = intervals.low[near, section] if is_near else section_start[section]
        stop = intervals.high[near, section] if is_near else section_start[section + 1]
        if start < stop:
            searches.value[count], searches.first[count], searches.stop[count] = own, start, stop
            searches.section[count], searches.owner[count] = section, candidate
            count += 1
    return count


@kernel_no_refcount
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
