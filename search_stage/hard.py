"""Hierarchical hard search: behaviors related to the candidate by the taxonomy, one policy per domain.

Per candidate and domain, each on its own:

- A row's match level is the smallest level whose set holds it (`levels.py` says what the sets are).
- The stop level is the first whose cumulative number of rows is at least `min_matches`, else `max_level`.
- The answer is the rows at levels up to the stop level, by (match level, newest first), the first `quota` of them.

Candidates that share their category and match nothing at level 0 have the same answer, which is computed once. Of an
interval only its newest `quota` rows can be answered: fewer than `min_matches <= quota` rows lie below the stop level,
so that many rows suffice even when all of those are among them.

Time is a position in the user's time order (`rank`), which breaks ties by event order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.levels import expand_runs
from search_stage.ragged import expand_ranges, position_in_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_stage.config import HardPolicy
    from search_stage.levels import LevelMatches
    from store.types import I64, Bool

_LEVELS = 256
"""More than any match level: the radix of composite sort keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardMatches:
    """What hard search found, as columns; candidates ascending."""

    candidate: I64
    """(H,)"""
    rank: I64
    """Position of the behavior in the user's time order. (H,)"""
    level: I64
    """Match level. (H,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """Distinct questions among the candidates: same category and no level-0 match = same answer."""

    of_candidate: I64
    category: I64
    own_key: I64
    """Key of each pair in `LevelMatches.own_run`. (P,)"""

    def __len__(self) -> int:
        return len(self.category)


def hard_search(matches: LevelMatches, policies: Sequence[HardPolicy], cap: int | None = None) -> HardMatches:
    """Runs hierarchical hard search for all candidates.

    Args:
        matches: The level matches of the request, with more levels than every policy's `max_level`.
        policies: One policy for each of `matches.runs.domains`.
        cap: Also answer at most this many per candidate over all domains, by (match level, newest first).

    Returns:
        The behaviors found. Mutates nothing.
    """
    quotas = np.array([p.quota for p in policies], np.int64)
    keys = _distinct_keys(matches)
    needed = _needed_levels(matches, keys, policies)
    group, level, rank = _entries(matches, keys, needed, quotas)
    num_rows = max(matches.runs.columns.num_behaviors, 1)
    group, level, rank = _lowest_level_only(group, level, rank, num_rows)
    group, level, rank = _first(group, level, rank, num_rows, quotas[group % max(len(quotas), 1)])
    key = group // max(len(quotas), 1)
    if cap is not None:
        key, level, rank = _first(key, level, rank, num_rows, np.full(len(key), cap))
    return _for_candidates(keys, key, level, rank)


def _distinct_keys(matches: LevelMatches) -> _Keys:
    num_categories = len(matches.intervals)
    label = matches.category.copy()
    label[matches.own_candidate] = num_categories + matches.own_candidate
    _, first, of_candidate = np.unique(label, return_index=True, return_inverse=True)
    return _Keys(
        of_candidate=of_candidate,
        category=matches.category[first],
        own_key=of_candidate[matches.own_candidate],
    )


def _needed_levels(matches: LevelMatches, keys: _Keys, policies: Sequence[HardPolicy]) -> Bool:
    """Says which levels each key takes rows from in each domain: bool (keys, D, L), column 0 = level 0."""
    runs = matches.runs
    num_keys, num_domains, num_levels = len(keys), len(policies), matches.intervals.shape[1]
    group = keys.own_key * num_domains + runs.section_domain[runs.section[matches.own_run]]
    own_rows = runs.length[matches.own_run]
    intervals = matches.intervals[keys.category]
    found = np.empty((num_keys * num_domains, num_levels), np.int64)
    found[:, 0] = np.bincount(group, own_rows, num_keys * num_domains)
    by_domain = _rows_by_domain(matches, num_domains)
    found[:, 1:] = by_domain[intervals[:, 1:]].transpose(0, 2, 1).reshape(num_keys * num_domains, num_levels - 1)
    node = runs.node[matches.own_run]
    for level in range(1, num_levels):
        interval = intervals[keys.own_key, level]
        outside = (node < matches.interval_node[interval]) | (node >= matches.interval_end[interval])
        found[:, level] += np.bincount(group, own_rows * outside, num_keys * num_domains).astype(np.int64)
    cumulative = np.maximum.accumulate(found, axis=1).reshape(num_keys, num_domains, num_levels)
    enough = cumulative >= np.array([p.min_matches for p in policies], np.int64)[:, None]
    levels = np.arange(num_levels)
    reached = np.where(enough.any(axis=2), enough.argmax(axis=2), num_levels)
    stop = np.minimum(reached, np.array([p.max_level for p in policies], np.int64))
    offered = np.array([p.quota > 0 for p in policies], np.bool_)
    needed: Bool = (levels <= stop[:, :, None]) & offered[:, None]
    return needed


def _rows_by_domain(matches: LevelMatches, num_domains: int) -> I64:
    """Gives the number of rows of each interval in each domain, (A, D)."""
    runs = matches.runs
    per_section = runs.start[matches.high] - runs.start[matches.low]
    total = np.zeros((len(per_section), num_domains), np.int64)
    for section, domain in enumerate(runs.section_domain):
        total[:, domain] += per_section[:, section]
    return total


def _entries(matches: LevelMatches, keys: _Keys, needed: Bool, quotas: I64) -> tuple[I64, I64, I64]:
    """Lists (group = key x domain, level, rank) of every row that may be answered, at every level that holds it."""
    runs = matches.runs
    num_domains = len(quotas)
    own_domain = runs.section_domain[runs.section[matches.own_run]]
    wanted = np.flatnonzero(needed[keys.own_key, own_domain, 0])
    owner, rows = expand_runs(runs, matches.own_run[wanted])
    own_group = (keys.own_key * num_domains + own_domain)[wanted][owner]
    own_rank = runs.columns.rank[rows].astype(np.int64)

    key, domain, level = np.nonzero(needed[:, :, 1:])
    level += 1
    pair = matches.intervals[keys.category[key], level] * num_domains + domain
    starts, ranks = _newest_of_intervals(matches, np.unique(pair), quotas)
    owner, at = expand_ranges(starts[pair], starts[pair + 1] - starts[pair])
    return (
        np.concatenate((own_group, (key * num_domains + domain)[owner])),
        np.concatenate((np.zeros(len(own_rank), np.int64), level[owner])),
        np.concatenate((own_rank, ranks[at])),
    )


def _newest_of_intervals(matches: LevelMatches, pairs: I64, quotas: I64) -> tuple[I64, I64]:
    """Gives the ranks of the newest `quota` rows of some (interval, domain) pairs, in no order.

    Returns:
        Where each pair's list starts, for all A x D pairs and the end, (A D + 1,); and the ranks.
    """
    runs = matches.runs
    num_domains = len(quotas)
    wanted = np.zeros((len(matches.low), num_domains), np.bool_)
    wanted.ravel()[pairs] = True
    # Sections ascend by domain, so the rows of one pair come out together.
    interval, section = np.nonzero(wanted[:, runs.section_domain] & (matches.high > matches.low))
    first = runs.start[matches.low[interval, section]]
    owner, rows = expand_ranges(first, runs.start[matches.high[interval, section]] - first)
    ranks = runs.columns.rank[rows].astype(np.int64)
    pair = interval * num_domains + runs.section_domain[section]
    lengths = np.bincount(pair[owner], minlength=wanted.size)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    quota = np.tile(quotas, len(wanted))
    too_long = np.flatnonzero(lengths > quota)
    if len(too_long):
        keep = np.ones(len(ranks), np.bool_)
        for at in too_long:
            part = slice(starts[at], starts[at + 1])
            keep[part] = ranks[part] >= np.partition(ranks[part], -quota[at])[-quota[at]]
        ranks = ranks[keep]
        starts = np.concatenate(([0], np.cumsum(np.minimum(lengths, quota))))
    return starts, ranks


def _lowest_level_only(group: I64, level: I64, rank: I64, num_rows: int) -> tuple[I64, I64, I64]:
    """Keeps each (group, rank) once, at its smallest level."""
    composite = np.sort((group * num_rows + rank) * _LEVELS + level)
    identity = composite // _LEVELS
    first = np.ones(len(identity), np.bool_)
    np.not_equal(identity[1:], identity[:-1], out=first[1:])
    identity = identity[first]
    return identity // num_rows, composite[first] % _LEVELS, identity % num_rows


def _first(group: I64, level: I64, rank: I64, num_rows: int, limits: I64) -> tuple[I64, I64, I64]:
    """Keeps the first rows of each group by (level, newest first); `limits` is equal within a group. Sorts by it."""
    order = np.argsort((group * _LEVELS + level) * num_rows + (num_rows - 1 - rank))
    kept = order[position_in_group(group[order]) < limits[order]]
    return group[kept], level[kept], rank[kept]


def _for_candidates(keys: _Keys, key: I64, level: I64, rank: I64) -> HardMatches:
    """Hands each key's answer to all its candidates."""
    starts = np.searchsorted(key, np.arange(len(keys) + 1))
    candidate, at = expand_ranges(starts[keys.of_candidate], np.diff(starts)[keys.of_candidate])
    return HardMatches(candidate=candidate, rank=rank[at], level=level[at])
