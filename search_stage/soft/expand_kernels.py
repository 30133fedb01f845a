"""Kernels between behaviors and keys: the keys of a history, and the best behaviors behind the best keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.kernels.sorting import sort_down, sort_up
from store.compiled import kernel

if TYPE_CHECKING:
    from store.types import I64, U32, U64

_NO_KEY = ~np.uint64(0)
_RANK = np.uint64(0xFFFFFFFF)
_SCORE_SHIFT = np.uint64(32)


@kernel
def list_keys(
    node: U32, rank: U32, first_rank: int, cut: int, section_start: I64, representative: U32
) -> tuple[U32, U32]:
    """Gives the vectors behind a history: for each run of rows of one node its vector and its newest row.

    Args:
        node: Of each row. (N,)
        rank: Of each row. (N,)
        first_rank: Only behaviors at or after this position in the time order.
        cut: And before this one.
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
            if last >= first and rank[last] >= first_rank:
                keys[count], newest[count] = representative[this], rank[last]
                count += 1
    return keys[:count], newest[:count]


@kernel
def best_rows(
    best: U64, node: U32, rank: U32, order: U32, first_rank: int, section_start: I64, top_k: int
) -> tuple[I64, I64]:
    """Gives the best behaviors by (score, newest first) behind the best keys.

    Args:
        best: Packed keys of each query, best first, all ones = no more; `score_kernels.py` draws them. (Q, k)
        node: Of each row. (N,)
        rank: Of each row. (N,)
        order: Its inverse. (N,)
        first_rank: Only behaviors at or after this position in the time order.
        section_start: First row of each section, and the end. (S + 1,)
        top_k: Behaviors per query, at least 1.

    Returns:
        Where each query's list starts in the other, and the end, (Q + 1,); positions in time order, ascending.
    """
    width = best.shape[1]
    starts, out = np.zeros(len(best) + 1, np.int64), np.empty(len(best) * top_k, np.int64)
    found, count = np.empty(width * top_k, np.int64), 0
    for query in range(len(best)):
        begin, at = count, 0
        while at < width and count - begin < top_k and best[query, at] != _NO_KEY:
            room, first, num_found = top_k - (count - begin), at, 0
            while at < width and best[query, at] != _NO_KEY:
                if best[query, at] >> _SCORE_SHIFT != best[query, first] >> _SCORE_SHIFT:
                    break
                row, last = np.int64(order[np.int64(_RANK - (best[query, at] & _RANK))]), num_found + room
                while True:
                    found[num_found] = rank[row]
                    num_found += 1
                    if num_found == last or row == 0 or node[row - 1] != node[row] or rank[row - 1] < first_rank:
                        break
                    if _is_start(row, section_start):
                        break
                    row -= 1
                at += 1
            if at > first + 1:
                sort_down(found[:num_found])
            for newest in range(min(num_found, room)):
                out[count] = found[newest]
                count += 1
        sort_up(out[begin:count])
        starts[query + 1] = count
    return starts, out[:count]


@kernel
def _is_start(row: np.int64, section_start: I64) -> bool:
    section = 0
    while section_start[section] < row:
        section += 1
    return bool(section_start[section] == row)
