"""The fourteen numbers: what a household did before, at each level of the candidate, strictly before the impression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scripts.joins import count_before, equal_pairs, per_100_days
from store.types import DAY_MS

if TYPE_CHECKING:
    from scripts.baselines.data import Dataset, Events
    from store.types import F64, I64

LEVELS = 3
"""Levels of the tree from the candidate's category upwards; level 0 is the items it covers."""

NAMES = (
    *(f"level_{level}_{what}" for level in range(LEVELS + 1) for what in ("count", "age_days")),
    "interests",
    "interests_age_days",
    "responses",
    "item_popularity",
    "category_popularity",
    "num_covers",
)

GROWING = ("interests", "responses", "item_popularity", "category_popularity")
"""Totals that grow with the calendar, and are therefore rates."""


def fourteen_numbers(data: Dataset) -> F64:
    """Gives the numbers of every impression, columns as in `NAMES`; ages are NaN where there is nothing to be old.

    Per level: how many of the user's interests (behaviors outside the ads' domain) fell there, and days since the
    newest. Then: all interests of the user and the newest one's age, the user's responses to ads, responses of all
    users to this ad, interests of all users in its category (these four per 100 days), and how many items it covers.

    Returns:
        (R, 14) float64.
    """
    shown, interests, responses = data.shown, data.interests, data.responses
    when = shown.timestamp_ms
    levels = categories_above(data, shown, LEVELS)
    rows, node = under_nodes(data)
    pairs = [
        _of_covered_items(data),
        *_by_level(data, levels, rows, node),
        count_before(interests.user, interests.timestamp_ms, shown.user, when),
    ]
    columns = [column for count, newest in pairs for column in (count, _age_days(count, newest, when))]
    columns += [
        count_before(responses.user, responses.timestamp_ms, shown.user, when)[0],
        count_before(responses.item, responses.timestamp_ms, shown.item, when)[0],
        count_before(node, interests.timestamp_ms[rows], levels[:, 0], when)[0],
        np.bincount(data.cover_ad, minlength=data.num_items)[shown.item],
    ]
    for name in GROWING:
        columns[NAMES.index(name)] = per_100_days(columns[NAMES.index(name)], when, data.first_ms)
    return np.stack(columns, axis=1).astype(np.float64)


def _age_days(count: I64, newest_ms: I64, when: I64) -> F64:
    return np.where(count > 0, (when - newest_ms) / DAY_MS, np.nan)


def categories_above(data: Dataset, events: Events, levels: int) -> I64:
    """Gives the node of each event's category, its parent, and so on, -1 above the top. (N, levels)."""
    above = data.taxonomy.ancestors(events.node, levels + 1)[:, 1:].astype(np.int64)
    above[above == data.taxonomy.unmapped] = -1
    return above


def _by_level(data: Dataset, levels: I64, rows: I64, node: I64) -> list[tuple[I64, I64]]:
    """Gives count and newest time of the user's interests under each of the candidate's categories, level 1 first."""
    interests, shown, num_nodes = data.interests, data.shown, data.taxonomy.num_nodes
    keys = np.where(levels >= 0, shown.user[:, None] * num_nodes + levels, -1)
    when = np.repeat(shown.timestamp_ms, LEVELS)
    found = count_before(interests.user[rows] * num_nodes + node, interests.timestamp_ms[rows], keys.ravel(), when)
    count, newest = (values.reshape(-1, LEVELS) for values in found)
    return [(count[:, level], newest[:, level]) for level in range(LEVELS)]


def under_nodes(data: Dataset) -> tuple[I64, I64]:
    """Gives a (row of the interests, node) pair per node that an interest stands at or under."""
    above = categories_above(data, data.interests, data.taxonomy.max_depth)
    rows, column = np.nonzero(above >= 0)
    return rows.astype(np.int64), above[rows, column]


def _of_covered_items(data: Dataset) -> tuple[I64, I64]:
    """Gives count and newest time of the user's interests in the items that each candidate covers."""
    interests, shown = data.interests, data.shown
    rows, cover = equal_pairs(interests.item, data.cover_item)
    return count_before(
        interests.user[rows] * data.num_items + data.cover_ad[cover],
        interests.timestamp_ms[rows],
        shown.user * data.num_items + shown.item,
        shown.timestamp_ms,
    )
