"""Kernels between behaviors and keys: the keys of a history, and the best behaviors behind the best keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.compiled import compiled
from search_stage.sorting import sort_down, sort_up

if TYPE_CHECKING:
    from store.types import I64, U32, U64

_RANK = np.uint64(0xFFFFFFFF)
_SCORE_SHIFT = np.uint64(32)


@compiled
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


@compiled
def best_rows(
    best: U64, node: U32, rank: U32, order: U32, first_rank: int, section_start: I64, top_k: int
) -> tuple[I64, I64]:
    """Gives the best behaviors by (score, newest first) behind the best keys.

    Args:
        best: Packed keys of each query, best first, all ones = no more; `scoring.py` draws them. (Q, k)
        node: Of each row. (N,)
        rank: Of each row. (N,)
        order: Its inverse. (N,)
        first_rank: Only behaviors at or after this position in the time order.
        section_start: First row of each section, and the end. (S + 1,)
        top_k: Behaviors per query, at least 1.

    Returns:
        Where each query's list starts in the other, and the end, (Q + 1,); positions in time order, ascending.
    """
    starts, out = np.zeros(len(best) + 1, np.int64), np.empty(len(best) * top_k, np.int64)
    count = 0
    for query in range(len(best)):
        begin, end = count, count + top_k
        at = 0
        while at < best.shape[1] and count < end and best[query, at] != ~np.uint64(0):
            tied = at + 1
            while tied < best.shape[1] and best[query, tied] >> _SCORE_SHIFT == best[query, at] >> _SCORE_SHIFT:
                tied += 1
            if tied == at + 1:
                count = _take_newest(best[query, at], node, rank, order, first_rank, section_start, out, count, end)
            else:
                rows = _rows_of(best[query, at:tied], node, rank, order, first_rank, section_start, end - count)
                for newest in range(min(len(rows), end - count)):
                    out[count] = rows[newest]
                    count += 1
            at = tied
        sort_up(out[begin:count])
        starts[query + 1] = count
    return starts, out[:count]


@compiled
def _rows_of(keys: U64, node: U32, rank: U32, order: U32, first_rank: int, section_start: I64, room: int) -> I64:
    """Gives the positions in time order of the newest `room` rows of each of some keys, newest first."""
    found, count = np.empty(len(keys) * room, np.int64), 0
    for at in range(len(keys)):
        count = _take_newest(keys[at], node, rank, order, first_rank, section_start, found, count, count + room)
    sort_down(found[:count])
    return found[:count]


@compiled
def _take_newest(
    key: np.uint64,
    node: U32,
    rank: U32,
    order: U32,
    first_rank: int,
    section_start: I64,
    out: I64,
    count: int,
    end: int,
) -> int:
    """Writes the positions of a key's rows to `out[count:end]`, newest first, and gives the new count."""
    row = np.int64(order[np.int64(_RANK - (key & _RANK))])
    this = node[row]
    while count < end:
        out[count] = rank[row]
        count += 1
        if row == 0 or node[row - 1] != this or rank[row - 1] < first_rank or _is_start(row, section_start):
            break
        row -= 1
    return count


@compiled
def _is_start(row: np.int64, section_start: I64) -> bool:
    section = 0
    while section_start[section] < row:
        section += 1
    return bool(section_start[section] == row)
