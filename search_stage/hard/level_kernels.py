"""Kernels that find the rows of a history that match candidates level by level; `levels.py` says what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search_stage.hard.interval_kernels import climb, find_intervals, lower_bound, lower_bounds
from store.compiled import kernel, kernel_inline, kernel_no_refcount

if TYPE_CHECKING:
    from store.types import I32, I64, U32, U64

_NODES_AT_ONCE = 128
"""Own nodes that are searched together."""
_SEARCH_COST = 16
"""A search for a node in one section, in rows whose nodes are noted: what notes them all spares searches in vain."""


class HistoryRows(NamedTuple):
    """The rows of a history up to the as-of time."""

    node: U32
    """(N,)"""
    rank: U32
    """Position of each row in the time order. (N,)"""
    cut: int
    """Behaviors that exist: rows with `rank < cut`."""
    section_start: I64
    """First row of each section, and the end. (S + 1,)"""


class CandidateNodes(NamedTuple):
    """The nodes of candidates: their categories in a ragged list, and those of level 0."""

    category: U32
    """Known categories, a candidate's main one first. (X,)"""
    category_offsets: I64
    """(C + 1,)"""
    item: U32
    """Node of each ad. (C,)"""
    product: U32
    """Nodes of covered products, each candidate's ascending, distinct, and none the ad's own. Read-only. (P,)"""
    product_start: I64
    """Where each candidate's products start. (C,)"""
    product_stop: I64
    """And end. (C,)"""


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


@kernel
def find_rows(
    rows: HistoryRows, candidates: CandidateNodes, parent: I32, ends: U32, num_levels: int
) -> tuple[I64, ...]:
    """Finds the rows that match candidates at each level.

    Args:
        rows: The history.
        candidates: What to match.
        parent: `Taxonomy.parent`. (num_nodes,)
        ends: `Taxonomy.end`. (num_nodes,)
        num_levels: One more than the ancestors to find, the category itself among them.

    Returns:
        What `Intervals` holds, then what `OwnRows` holds. To hand over a named tuple, numba reads its class out of a
        pickle, each time: several microseconds.
    """
    category, chain, first, end, inside = climb(candidates.category, parent, ends, num_levels)
    low, high = find_intervals(rows.node, rows.section_start, first, end, inside)
    chain_start = candidates.category_offsets
    intervals = Intervals(chain_start, category, chain, first, end, low, high)
    own = _find_own(rows, candidates, intervals, len(parent))
    return chain_start, category, chain, first, end, low, high, own.start, own.section, own.low, own.high


@kernel
def _find_own(rows: HistoryRows, candidates: CandidateNodes, intervals: Intervals, unmapped: int) -> OwnRows:
    """Finds the rows of own nodes, many together; nodes from `unmapped` on have no rows for this purpose."""
    owns, offsets = _own_nodes(rows, candidates, unmapped)
    room = _NODES_AT_ONCE * (len(rows.section_start) - 1)
    searches = _Searches(
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
    )
    start, count = np.zeros(len(offsets), np.int64), 0
    section_of, low, high = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    for begin in range(0, len(owns), _NODES_AT_ONCE):
        found = _search_own(rows, owns, offsets, intervals, begin, searches)
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


@kernel
def _own_nodes(rows: HistoryRows, candidates: CandidateNodes, unmapped: int) -> tuple[U32, I64]:
    """Gives the known nodes of level 0 of each candidate, where they are many only those that occur in the history.

    Returns:
        Nodes, one candidate's after another; where each candidate's start, and the end, (C + 1,).
    """
    count = len(candidates.item)
    offsets, room = np.zeros(count + 1, np.int64), count
    for at in range(count):
        room += candidates.product_stop[at] - candidates.product_start[at]
    is_few = room * (len(rows.section_start) - 1) * _SEARCH_COST < len(rows.node) + (unmapped >> 6)
    seen = np.zeros(0 if is_few else (unmapped >> 6) + 1, np.uint64)
    if not is_few:
        for row in range(len(rows.node)):
            seen[rows.node[row] >> 6] |= np.uint64(1) << np.uint64(rows.node[row] & 63)
    nodes, end = np.empty(room, np.uint32), 0
    for at in range(count):
        if candidates.item[at] < unmapped:
            end = _add_node(nodes, end, candidates.item[at], seen)
        for product in range(candidates.product_start[at], candidates.product_stop[at]):
            end = _add_node(nodes, end, candidates.product[product], seen)
        offsets[at + 1] = end
    return nodes[:end], offsets


@kernel_inline
def _add_node(nodes: U32, end: int, node: np.uint32, seen: U64) -> int:
    """Adds a node unless it is not among those seen; gives the new end."""
    nodes[end] = node
    if len(seen) == 0:
        return end + 1
    return end + int(np.int64(seen[node >> 6] >> np.uint64(node & 63) & np.uint64(1)))


@kernel_no_refcount
def _search_own(
    rows: HistoryRows,
    nodes: U32,
    offsets: I64,
    intervals: Intervals,
    begin: int,
    searches: _Searches,
) -> int:
    """Searches for some own nodes from `begin` on; puts what is found in front and gives its number."""
    node, rank, cut = rows.node, rows.rank, rows.cut
    count, found, candidate = 0, 0, int(np.searchsorted(offsets, begin, "right")) - 1
    for at in range(begin, min(begin + _NODES_AT_ONCE, len(nodes))):
        while offsets[candidate + 1] <= at:
            candidate += 1
        count = _add_searches(nodes[at], candidate, rows.section_start, intervals, searches, count)
    lower_bounds(node, searches.value[:count], searches.first[:count], searches.stop[:count])
    for at in range(count):
        own, row, stop = searches.value[at], searches.first[at], searches.stop[at]
        if row < stop and node[row] == own and rank[row] < cut:
            searches.first[found] = row
            searches.stop[found] = _end_before(rank, row, lower_bound(node, row, stop, own + 1), cut)
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


@kernel_inline
def _end_before(rank: U32, start: int, stop: int, cut: int) -> int:
    """Gives the end of those rows of one node `[start, stop)` that stand before the cut: they are the first of them."""
    return stop if rank[stop - 1] < cut else lower_bound(rank, start, stop, cut)
