"""Kernels between behaviors and keys: the keys of a history, and the best behaviors behind the best keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.compiled import compiled

if TYPE_CHECKING:
    from store.types import I64, U32, U64

_RANK = np.uint64(0xFFFFFFFF)
_SCORE_SHIFT = np.uint64(32)


@compiled
def list_keys(node: U32, rank: U32, cut: int, section_start: I64, representative: U32) -> tuple[U32, U32]:
    """Gives the vectors behind a history: for each run of rows of one node its vector and its newest row.

    Args:
        node: Of each row. (N,)
        rank: Of each row. (N,)
        cut: Behaviors that exist.
        section_start: First row of each section, and the end. (S + 1,)
        representative: For each node, and for "unmapped", the first node of an equal vector.

    Returns:
        Row of the attention table, and the position in time order of the newest behavior, of each key. (K,)
    """
    keys, newest = np.empty(len(node), np.uint32), np.empty(len(node), np.uint32)
    count = 0
    is_whole = cut == len(node)
    for section in range(len(section_start) - 1):
        row, stop = section_start[section], section_start[section + 1]
        while row < stop:
            this = node[row]
            last = row if rank[row] < cut else row - 1
            first = row
            row += 1
            while row < stop and node[row] == this:
                if is_whole or rank[row] < cut:
                    last = row
                row += 1
            if last >= first:
                keys[count], newest[count] = representative[this], rank[last]
                count += 1
    return keys[:count], newest[:count]


@compiled
def best_rows(best: U64, node: U32, rank: U32, order: U32, section_start: I64, top_k: int) -> tuple[I64, I64]:
    """Gives the best behaviors by (score, newest first) behind the best keys.

    Args:
        best: Packed keys of each query, best first, all ones = no more; `soft_kernels.py` draws them. (Q, k)
        node: Of each row. (N,)
        rank: Of each row. (N,)
        order: Its inverse. (N,)
        section_start: First row of each section, and the end. (S + 1,)
        top_k: Behaviors per query, at least 1.

    Returns:
        Where each query's list starts in the other, and the end, (Q + 1,); positions in time order, ascending.
    """
    starts, out = np.zeros(len(best) + 1, np.int64), np.empty(len(best) * top_k, np.int64)
    count = 0
    for query in range(len(best)):
        begin = count
        at = 0
        while at < best.shape[1] and count - begin < top_k and best[query, at] != ~np.uint64(0):
            tied = at + 1
            while tied < best.shape[1] and best[query, tied] >> _SCORE_SHIFT == best[query, at] >> _SCORE_SHIFT:
                tied += 1
            room = top_k - (count - begin)
            rows = _rows_of(best[query, at:tied], node, rank, order, section_start, room)
            for newest in range(min(len(rows), room)):
                out[count] = rows[newest]
                count += 1
            at = tied
        sort_down(out, begin, count)
        for low in range((count - begin) // 2):
            high = count - 1 - low
            out[begin + low], out[high] = out[high], out[begin + low]
        starts[query + 1] = count
    return starts, out[:count]


@compiled
def _rows_of(keys: U64, node: U32, rank: U32, order: U32, section_start: I64, room: int) -> I64:
    """Gives the positions in time order of the newest `room` rows of each of some keys, newest first."""
    found, count = np.empty(len(keys) * room, np.int64), 0
    for at in range(len(keys)):
        row = np.int64(order[np.int64(_RANK - (keys[at] & _RANK))])
        this, stop = node[row], row - room
        section = 0
        while section_start[section + 1] <= row:
            section += 1
        while row > stop and row >= section_start[section] and node[row] == this:
            found[count] = rank[row]
            count += 1
            row -= 1
    found = found[:count]
    if len(keys) > 1:
        sort_down(found, 0, count)
    return found


@compiled
def sort_down(values: I64, start: int, stop: int) -> None:
    """Sorts a part of an array, descending; see `hard_kernels.sort_down`."""
    gap = 1
    while gap < (stop - start) // 2:
        gap = gap * 9 // 4 + 1
    while gap > 0:
        for at in range(start + gap, stop):
            value = values[at]
            hole = at
            while hole - gap >= start and values[hole - gap] < value:
                values[hole] = values[hole - gap]
                hole -= gap
            values[hole] = value
        gap = max(gap * 4 // 9, 1) if gap > 1 else 0
