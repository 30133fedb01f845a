"""Merges what hard search, soft search and the recency fill found into one list per candidate, oldest first."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.kernels.distinct import number_distinct
from store.compiled import kernel
from store.retrieval import NO_LEVEL, SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT

if TYPE_CHECKING:
    from search_stage.hard.hard import HardMatches
    from store.types import I32, I64, U8, U32, U64, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftMatches:
    """Soft search's answers by query, and the query of each candidate."""

    query: I64
    """(C,)"""
    start: I64
    """Where each query's list starts in `rank`, and the end. (Q + 1,)"""
    rank: I64
    """Positions in the user's time order, ascending within a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The distinct lists of a request; candidates with the same question and the same query have the same list."""

    list_of: I64
    """(C,)"""
    first: I64
    """The first candidate of each list. (G,)"""
    start: I64
    """Where each list starts in the three below, and the end. (G + 1,)"""
    rank: I64
    """Position of each behavior in the user's time order, ascending within a list. (M,)"""
    level: U8
    """Match level; `NO_LEVEL` where hard search did not find it. (M,)"""
    source: U8
    """Bits `SOURCE_*`. (M,)"""


def merge(hard: HardMatches, soft: SoftMatches, num_rows: int, num_recent: int) -> Merged:
    """Gives the union of the sources per candidate.

    Args:
        hard: What hard search found.
        soft: What soft search found; its lists are empty when it is off, and its queries still tell candidates apart.
        num_rows: Behaviors of the user before the as-of time.
        num_recent: How many of the newest each candidate gets.
    """
    list_of, first = number_distinct(hard.question * (len(soft.start) - 1) + soft.query)
    oldest_recent = max(num_rows - num_recent, 0)
    start, rank, level, source = join_sources(
        hard.question[first],
        hard.start,
        hard.rank,
        hard.level,
        soft.query[first],
        soft.start,
        soft.rank,
        oldest_recent,
        num_rows,
    )
    return Merged(list_of=list_of, first=first, start=start, rank=rank, level=level, source=source)


@kernel
def join_sources(
    question: I64,
    hard_start: I64,
    hard_rank: I64,
    hard_level: I64,
    query: I64,
    soft_start: I64,
    soft_rank: I64,
    oldest_recent: int,
    num_rows: int,
) -> tuple[I64, I64, U8, U8]:
    """Joins three ascending lists into one, list by list; the names are those of `merge`."""
    room = 0
    for at in range(len(question)):
        room += hard_start[question[at] + 1] - hard_start[question[at]] + num_rows - oldest_recent
        room += soft_start[query[at] + 1] - soft_start[query[at]]
    starts, rank = np.zeros(len(question) + 1, np.int64), np.empty(room, np.int64)
    level, source = np.empty(room, np.uint8), np.empty(room, np.uint8)
    count = 0
    for at in range(len(question)):
        h, h_end = hard_start[question[at]], hard_start[question[at] + 1]
        s, s_end = soft_start[query[at]], soft_start[query[at] + 1]
        r = oldest_recent
        while h < h_end or s < s_end or r < num_rows:
            oldest = r if r < num_rows else num_rows
            if h < h_end:
                oldest = min(oldest, hard_rank[h])
            if s < s_end:
                oldest = min(oldest, soft_rank[s])
            rank[count], level[count], source[count] = oldest, NO_LEVEL, 0
            if h < h_end and hard_rank[h] == oldest:
                level[count] = hard_level[h]
                source[count] |= SOURCE_HARD
                h += 1
            if s < s_end and soft_rank[s] == oldest:
                source[count] |= SOURCE_SOFT
                s += 1
            if r == oldest and r < num_rows:
                source[count] |= SOURCE_RECENT
                r += 1
            count += 1
        starts[at + 1] = count
    return starts, rank[:count], level[:count], source[:count]


@kernel
def number_used(rank: I64, num_rows: int, num_newest: int) -> tuple[I64, I32]:
    """Gives the positions in time order that are used, ascending, and the index of each entry among them.

    Args:
        rank: Positions in time order, in any order and multiplicity. (M,)
        num_rows: Behaviors of the user before the as-of time.
        num_newest: So many of the last positions are used whatever the entries.

    Returns:
        The distinct positions, (U,), and (M,).
    """
    words = np.zeros((num_rows >> 6) + 1, np.uint64)
    for at in range(len(rank)):
        words[rank[at] >> 6] |= np.uint64(1) << np.uint64(rank[at] & 63)
    for at in range(num_rows - num_newest, num_rows):
        words[at >> 6] |= np.uint64(1) << np.uint64(at & 63)
    before = np.empty(len(words), np.int64)
    count = 0
    used = np.empty(min(len(rank) + num_newest, num_rows), np.int64)
    for word in range(len(words)):
        before[word] = count
        if words[word]:
            for bit in range(64):
                if words[word] >> np.uint64(bit) & np.uint64(1):
                    used[count] = word * 64 + bit
                    count += 1
    index = np.empty(len(rank), np.int32)
    for at in range(len(rank)):
        below = words[rank[at] >> 6] & ((np.uint64(1) << np.uint64(rank[at] & 63)) - np.uint64(1))
        index[at] = before[rank[at] >> 6] + _ones_in(below)
    return used[:count], index


@kernel
def _ones_in(word: np.uint64) -> np.int64:
    """Counts the bits set. Source: Warren, Hacker's Delight, section 5-1."""
    word = word - (word >> np.uint64(1) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + (word >> np.uint64(2) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def describe_rows(
    used: I64, order: U32, node: U32, timestamp_ms: I64, section_start: I64, parent: I32, is_item: Bool, ids: U64
) -> tuple[I64, I64, I64, U64]:
    """Gives what the answer says of behaviors: row, section, time and category.

    Args:
        used: Positions in time order. (U,)
        order: Row at each position. (N,)
        node: Of each row. (N,)
        timestamp_ms: Of each row. (N,)
        section_start: First row of each section, and the end. (S + 1,)
        parent: `Taxonomy.parent`. (num_nodes,)
        is_item: `Taxonomy.is_item`. (num_nodes,)
        ids: `Taxonomy.id`. (num_nodes,)

    Returns:
        Four arrays (U,).
    """
    row, section = np.empty(len(used), np.int64), np.empty(len(used), np.int64)
    time, category_of = np.empty(len(used), np.int64), np.empty(len(used), np.uint64)
    for at in range(len(used)):
        this = np.int64(order[used[at]])
        part = 0
        while section_start[part + 1] <= this:
            part += 1
        row[at], section[at], time[at] = this, part, timestamp_ms[this]
        category = np.int64(node[this])
        if category == len(parent):
            category = np.int64(-1)
        elif is_item[category]:
            category = np.int64(parent[category])
        category_of[at] = ids[category] if category >= 0 else ~np.uint64(0)
    return row, section, time, category_of


@kernel
def spread_lists(list_of: I64, start: I64) -> tuple[I64, I64]:
    """Gives where each candidate's list starts, and the end, (C + 1,); and the entries of all, one after another.

    Args:
        list_of: (C,)
        start: Where each list's entries start, and the end. (G + 1,)
    """
    offsets = np.zeros(len(list_of) + 1, np.int64)
    for at in range(len(list_of)):
        offsets[at + 1] = offsets[at] + start[list_of[at] + 1] - start[list_of[at]]
    entries = np.empty(offsets[-1], np.int64)
    for at in range(len(list_of)):
        for step in range(offsets[at + 1] - offsets[at]):
            entries[offsets[at] + step] = start[list_of[at]] + step
    return offsets, entries


@kernel
def first_equal(start: I64, rank: I64, level: U8, source: U8, score: U32) -> I64:
    """Gives for each list the first one that is equal to it in everything.

    Args:
        start: Where each list starts in the others, and the end. (G + 1,)
        rank: Position of each behavior in time order. (M,)
        level: Match level. (M,)
        source: Bits `SOURCE_*`. (M,)
        score: Bits of the score. (M,)
    """
    num_lists = len(start) - 1
    size = 16
    while size < 2 * num_lists:
        size *= 2
    slots, first = np.full(size, -1, np.int64), np.empty(num_lists, np.int64)
    for this in range(num_lists):
        mixed = np.uint64(start[this + 1] - start[this])
        for at in range(start[this], start[this + 1]):
            entry = np.uint64(rank[at]) << np.uint64(32) | np.uint64(score[at])
            mixed = (mixed ^ entry) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        slot = np.int64(mixed & np.uint64(size - 1))
        while slots[slot] >= 0 and not _is_equal(slots[slot], this, start, rank, level, source, score):
            slot = (slot + 1) & (size - 1)
        if slots[slot] < 0:
            slots[slot] = this
        first[this] = slots[slot]
    return first


@kernel
def _is_equal(one: int, other: int, start: I64, rank: I64, level: U8, source: U8, score: U32) -> bool:
    shift = start[other] - start[one]
    if start[one + 1] - start[one] != start[other + 1] - start[other]:
        return False
    for at in range(start[one], start[one + 1]):
        there = at + shift
        if rank[at] != rank[there] or level[at] != level[there]:
            return False
        if source[at] != source[there] or score[at] != score[there]:
            return False
    return True
