"""The fourteen numbers: what a household did before, at each level of the candidate, strictly before the impression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scripts.asof import DAY_MS, count_before, per_100_days

if TYPE_CHECKING:
    from scripts.baselines.data import F64, Dataset, Events
    from store.types import I64

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
    reaching = _reached_ads(data)
    rows, node = _under_nodes(data)
    pairs = [
        count_before(
            reaching.user * data.num_items + reaching.item,
            reaching.timestamp_ms,
            shown.user * data.num_items + shown.item,
            when,
        ),
        *_by_level(data, rows, node),
        count_before(interests.user, interests.timestamp_ms, shown.user, when),
    ]
    columns = [column for count, newest in pairs for column in (count, _age_days(count, newest, when))]
    columns += [
        count_before(responses.user, responses.timestamp_ms, shown.user, when)[0],
        count_before(responses.item, responses.timestamp_ms, shown.item, when)[0],
        count_before(node, interests.timestamp_ms[rows], shown.node, when)[0],
        np.bincount(data.cover_ad, minlength=data.num_items)[shown.item],
    ]
    for name in GROWING:
        columns[NAMES.index(name)] = per_100_days(columns[NAMES.index(name)], when, data.first_ms)
    return np.stack(columns, axis=1).astype(np.float64)


def _age_days(count: I64, newest_ms: I64, when: I64) -> F64:
    return np.where(count > 0, (when - newest_ms) / DAY_MS, np.nan)


def _by_level(data: Dataset, rows: I64, node: I64) -> list[tuple[I64, I64]]:
    """Gives count and newest time of the user's interests under each of the candidate's categories, level 1 first."""
    interests, shown, num_nodes = data.interests, data.shown, len(data.parent)
    asked = ancestors(data.parent, shown.node, LEVELS)
    keys = np.where(asked >= 0, shown.user[:, None] * num_nodes + asked, -1)
    when = np.repeat(shown.timestamp_ms, LEVELS)
    found = count_before(interests.user[rows] * num_nodes + node, interests.timestamp_ms[rows], keys.ravel(), when)
    count, newest = (values.reshape(-1, LEVELS) for values in found)
    return [(count[:, level], newest[:, level]) for level in range(LEVELS)]


def _under_nodes(data: Dataset) -> tuple[I64, I64]:
    """Gives a (row of the interests, node) pair per node that an interest stands at or under."""
    depth = int(max(_depths(data.parent), default=1))
    above = ancestors(data.parent, data.interests.node, depth)
    rows, column = np.nonzero(above >= 0)
    return rows.astype(np.int64), above[rows, column]


def _depths(parent: I64) -> list[int]:
    depths: list[int] = []
    for node in range(len(parent)):
        depth, above = 1, int(parent[node])
        while above >= 0:
            depth, above = depth + 1, int(parent[above])
        depths.append(depth)
    return depths


def ancestors(parent: I64, node: I64, levels: int) -> I64:
    """Gives each node, its parent, and so on, -1 above the top. (len(node), levels)."""
    result = np.full((len(node), levels), -1, dtype=np.int64)
    at = node
    for level in range(levels):
        result[:, level] = at
        at = np.where(at >= 0, parent[np.maximum(at, 0)], -1)
    return result


def _reached_ads(data: Dataset) -> Events:
    """Gives an event (user, ad) for each interest in an item and each ad that covers it."""
    order = np.argsort(data.cover_item, kind="stable")
    item, ad = data.cover_item[order], data.cover_ad[order]
    interests = data.interests
    first = np.searchsorted(item, interests.item)
    sizes = np.searchsorted(item, interests.item, side="right") - first
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    return type(interests)(
        user=interests.user[rows],
        item=ad[np.repeat(first, sizes) + within],
        node=interests.node[rows],
        timestamp_ms=interests.timestamp_ms[rows],
    )
