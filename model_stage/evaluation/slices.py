"""Slices of the impressions of a split: the same rows whatever the model, so that models are compared where it matters.

What an impression is cut by stands in `RowFacts`; the cuts themselves are the tables at the top.

Legend: N impressions, R requests, M pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_stage.encoding.batch import rows_of_spans
from store.retrieval import NO_LEVEL
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_stage.encoding.batch import RequestColumns
    from store.dataset.impressions import Impressions
    from store.reading.snapshot import Snapshot
    from store.types import I64, U8, Bool

HISTORY_LENGTHS = (0, 1, 50, 200, 500, 1000)
"""Behaviors before the impression: where each slice begins."""
MATCH_AGE_DAYS = (0, 7, 30, 90)
"""Age of the newest behavior that hard search found: where each slice begins; a slice of its own has none."""
NO_MATCH = "no match"
_REQUESTS = 4096
"""Requests to look at at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """What the impressions of a split are cut by; columns of length N."""

    num_behaviors: I64
    """Behaviors of the user before the impression."""
    match_age_ms: I64
    """Age of the newest behavior that hard search found for it; -1 = it found none."""
    match_level: U8
    """Levels hard search had to climb to the nearest of them; `NO_LEVEL` = it found none."""
    new_item: Bool
    """The item was in no impression that was learned from."""
    cold_user: Bool
    """The user had no impression that was learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some of the impressions. Those of one kind share no row, and together they are all."""

    kind: str
    label: str
    rows: I64
    """Ascending; at least one."""


def row_facts(
    impressions: Impressions, learned: Impressions, requests: RequestColumns, rows: I64, snapshot: Snapshot
) -> RowFacts:
    """Gathers what the impressions of a split are cut by.

    Args:
        impressions: Of the split.
        learned: Those that the model learned from.
        requests: What was retrieved for each request of the split.
        rows: Row of `impressions` of each candidate of `requests`: each row once. (N,)
        snapshot: The store generation that it was retrieved from. One look-up a request.
    """
    num_behaviors, match_age_ms = np.zeros(len(rows), np.int64), np.full(len(rows), -1)
    match_level = np.full(len(rows), NO_LEVEL, np.uint8)
    for first in range(0, len(requests), _REQUESTS):
        some = np.arange(first, min(first + _REQUESTS, len(requests)))
        candidates, _ = rows_of_spans(requests.candidate_offsets, some)
        match_level[rows[candidates]], match_age_ms[rows[candidates]] = _nearest(requests, some)
    for start, stop in zip(requests.candidate_offsets[:-1], requests.candidate_offsets[1:], strict=True):
        of_request = rows[start:stop]
        if len(of_request):
            user, as_of_ms = int(impressions.user[of_request[0]]), int(impressions.timestamp_ms[of_request[0]])
            num_behaviors[of_request] = snapshot.user(user).columns.num_before(as_of_ms)
    return RowFacts(
        num_behaviors=num_behaviors,
        match_age_ms=match_age_ms,
        match_level=match_level,
        new_item=~np.isin(impressions.item, learned.item),
        cold_user=~np.isin(impressions.user, learned.user),
    )


def slices_of(facts: RowFacts) -> list[Slice]:
    """Cuts the impressions in five ways; slices without an impression are left out."""
    lengths = [_span(start, stop, "") for start, stop in _pairs(HISTORY_LENGTHS)]
    ages = [_span(start, stop, " days") for start, stop in _pairs(MATCH_AGE_DAYS)]
    deepest = max((level for level in np.unique(facts.match_level).tolist() if level != NO_LEVEL), default=-1)
    level = np.where(facts.match_level == NO_LEVEL, deepest + 1, facts.match_level)
    age = np.searchsorted(np.array(MATCH_AGE_DAYS) * DAY_MS, facts.match_age_ms, side="right") - 1
    return [
        *_cut("history length", lengths, np.searchsorted(HISTORY_LENGTHS, facts.num_behaviors, side="right") - 1),
        *_cut("age of the last match", [*ages, NO_MATCH], np.where(facts.match_age_ms < 0, len(ages), age)),
        *_cut("match level", [*(str(at) for at in range(deepest + 1)), NO_MATCH], level),
        *_cut("item", ["seen in training", "new"], facts.new_item),
        *_cut("user", ["seen in training", "cold"], facts.cold_user),
    ]


def _cut(kind: str, labels: list[str], number: I64 | Bool) -> Iterator[Slice]:
    for at, label in enumerate(labels):
        (rows,) = np.nonzero(number == at)
        if len(rows):
            yield Slice(kind=kind, label=label, rows=rows)


def _nearest(requests: RequestColumns, some: I64) -> tuple[U8, I64]:
    """Gives level and age of the nearest and of the newest hard match of each candidate of consecutive requests."""
    first, last = (int(requests.candidate_offsets[at]) for at in (some[0], some[-1] + 1))
    offsets = requests.pair_offsets[first : last + 1]
    pairs = slice(int(offsets[0]), int(offsets[-1]))
    level_M = requests.match_level[pairs]
    each = np.diff(requests.pair_offsets[requests.candidate_offsets[some[0] : some[-1] + 2]])
    behavior_M = requests.pair_behavior[pairs] + np.repeat(requests.behavior_offsets[some], each)
    never = np.iinfo(np.int64).max
    age_M = np.where(level_M == NO_LEVEL, never, requests.interval_ms[behavior_M])
    level, age = np.full(last - first, NO_LEVEL, np.uint8), np.full(last - first, never)
    (filled,) = np.nonzero(np.diff(offsets))
    if len(filled):
        starts = offsets[:-1][filled] - offsets[0]
        level[filled] = np.minimum.reduceat(level_M, starts)
        age[filled] = np.minimum.reduceat(age_M, starts)
    return level, np.where(age == never, -1, age)


def _pairs(starts: tuple[int, ...]) -> list[tuple[int, int | None]]:
    return list(zip(starts, (*starts[1:], None), strict=True))


def _span(start: int, stop: int | None, unit: str) -> str:
    if stop is None:
        return f"{start:,}{unit} or more"
    return f"{start:,}{unit}" if stop == start + 1 else f"{start:,} to {stop - 1:,}{unit}"
