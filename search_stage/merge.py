"""Merges what hard search, soft search and the recency fill found into one list per candidate, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.ragged import expand_ranges
from store.reading.retrieval import NO_LEVEL, SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT

if TYPE_CHECKING:
    from search_stage.hard import HardMatches
    from store.types import I64, U8

_PAYLOAD_BITS = 11
"""Low bits of a composite sort key: the match level in 8 of them, the source in 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Each candidate's behaviors, each once, oldest first."""

    candidate: I64
    """(M,)"""
    rank: I64
    """Position of the behavior in the user's time order. (M,)"""
    level: U8
    """Match level; `NO_LEVEL` where hard search did not find it. (M,)"""
    source: U8
    """Bits `SOURCE_*`. (M,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftMatches:
    """Soft search's answers by query, and the query of each candidate."""

    query: I64
    """(C,)"""
    start: I64
    """Where each query's list starts in `rank`, and the end. (Q + 1,)"""
    rank: I64


def merge(hard: HardMatches, soft: SoftMatches | None, num_rows: int, num_recent: int, num_candidates: int) -> Merged:
    """Gives the union of the sources per candidate.

    Args:
        hard: What hard search found.
        soft: What soft search found; None when no index is loaded or it is switched off.
        num_rows: Behaviors of the user before the as-of time.
        num_recent: How many of the newest each candidate gets.
        num_candidates: Number of candidates C.
    """
    rank_bits = num_rows.bit_length()
    parts = [_pack(hard.candidate << rank_bits | hard.rank, hard.level, SOURCE_HARD)]
    if soft is not None:
        candidate, at = expand_ranges(soft.start[soft.query], np.diff(soft.start)[soft.query])
        parts.append(_pack(candidate << rank_bits | soft.rank[at], NO_LEVEL, SOURCE_SOFT))
    recent = np.arange(max(num_rows - num_recent, 0), num_rows)
    parts.append(_pack(np.arange(num_candidates)[:, None] << rank_bits | recent, NO_LEVEL, SOURCE_RECENT).ravel())
    packed = np.sort(np.concatenate(parts))
    pairs = packed >> _PAYLOAD_BITS
    first = np.ones(len(pairs), np.bool_)
    np.not_equal(pairs[1:], pairs[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    pairs = pairs[starts]
    # Of one pair hard search's entry sorts first, for every real level is below NO_LEVEL.
    level = (packed[starts] >> 3) & 255
    source = np.bitwise_or.reduceat(packed & 7, starts) if len(starts) else starts
    return Merged(
        candidate=pairs >> rank_bits,
        rank=pairs & ((1 << rank_bits) - 1),
        level=level.astype(np.uint8),
        source=source.astype(np.uint8),
    )


def _pack(pair: I64, level: I64 | int, source: int) -> I64:
    return pair << _PAYLOAD_BITS | (np.asarray(level, np.int64) << 3) | source
