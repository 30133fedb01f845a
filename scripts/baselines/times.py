"""Forty-nine numbers of time: when the interests came that the fourteen only count, strictly before the impression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scripts.baselines.features import LEVELS, categories_above, under_nodes
from scripts.joins import equal_pairs, runs_before
from store.types import DAY_MS

if TYPE_CHECKING:
    from scripts.baselines.data import Dataset
    from scripts.joins import Runs
    from store.types import F32, F64, I64

    Keyed = tuple[I64, I64, I64]
    """Keys of events, their times in milliseconds, and the key that each impression asks for."""

HALF_LIVES_DAYS = (7, 30, 90)
GROUPS = (*(f"level_{level}" for level in range(LEVELS + 1)), "favorite", "covered", "category")
WHAT = (*(f"decayed_{days}" for days in HALF_LIVES_DAYS), "days", "first_age_days", "gap_days", "due")
NAMES = tuple(f"{group}_{what}" for group in GROUPS for what in WHAT)


def numbers_of_time(data: Dataset) -> F32:
    """Gives the numbers of every impression, columns as in `NAMES`; NaN where there is nothing to be old.

    Of seven groups of interests: the user's at each level of the candidate (level 0 = the items it covers), the user's
    in the covered item that the user had most often (the newest of equals), all users' in the covered items, all
    users' in the candidate's category. Of each: counts that decay with three half-lives, days with an interest, age of
    the first, mean gap between such days, and how far the next is due (age of the newest over the mean gap).

    Returns:
        (R, 49)
    """
    when = data.shown.timestamp_ms
    return np.concatenate([_summary(*keyed, when) for keyed in _groups(data)], axis=1)


def _groups(data: Dataset) -> list[Keyed]:
    interests, shown, num_nodes = data.interests, data.shown, data.taxonomy.num_nodes
    covered, cover = equal_pairs(interests.item, data.cover_item)
    ad, covered_ms = data.cover_ad[cover], interests.timestamp_ms[covered]
    under, node = under_nodes(data)
    under_user, under_ms = interests.user[under] * num_nodes + node, interests.timestamp_ms[under]
    levels = categories_above(data, shown, LEVELS)
    level_0 = (interests.user[covered] * data.num_items + ad, covered_ms, shown.user * data.num_items + shown.item)
    favorite = _favorite(level_0, interests.item[covered], data)
    return [
        level_0,
        *(
            (under_user, under_ms, np.where(levels[:, level] >= 0, shown.user * num_nodes + levels[:, level], -1))
            for level in range(LEVELS)
        ),
        (
            interests.user * data.num_items + interests.item,
            interests.timestamp_ms,
            np.where(favorite >= 0, shown.user * data.num_items + favorite, -1),
        ),
        (ad, covered_ms, shown.item),
        (node, under_ms, levels[:, 0]),
    ]


def _favorite(covered: Keyed, item: I64, data: Dataset) -> I64:
    """Gives the covered item that each impression's user had most often before it, -1 where none. (R,).

    Args:
        covered: The users' interests in covered items, by user and ad.
        item: Of each of them.
        data: Numbers the items.
    """
    event_key, event_ms, query_key = covered
    found = np.full(len(query_key), -1, dtype=np.int64)
    runs = runs_before(event_key, event_ms, query_key, data.shown.timestamp_ms)
    for questions in runs.chunks():
        question, row = runs.pairs(questions)
        # Newest first, so that the first row of a pair of question and item is its newest.
        code = (question * data.num_items + item[row])[::-1]
        distinct, newest, often = np.unique(code, return_index=True, return_counts=True)
        asked = distinct // data.num_items
        best = np.lexsort((-newest, often, asked))
        last = np.append(asked[best][1:] != asked[best][:-1], True)[: len(best)]
        found[asked[best][last]] = (distinct % data.num_items)[best][last]
    return found


def _summary(event_key: I64, event_ms: I64, query_key: I64, query_ms: I64) -> F32:
    """Gives the numbers of one group, columns as in `WHAT`. (R, 7).

    Impressions share questions (one user and category, or one ad, at one time): each is answered once.
    """
    times, at = np.unique(query_ms, return_inverse=True)
    _, first, asked = np.unique(query_key * len(times) + at, return_index=True, return_inverse=True)
    when = query_ms[first]
    runs = runs_before(event_key, event_ms, query_key[first], when)
    found = runs.sizes > 0
    oldest, newest = (event_ms[runs.order[rows]] for rows in (runs.start[found], runs.stop[found] - 1))
    days = _distinct_days(runs, event_key, event_ms)
    gap_days = np.full(len(days), np.nan)
    np.divide(newest // DAY_MS - oldest // DAY_MS, days - 1, out=gap_days, where=days > 1)
    numbers = np.full((len(when), len(WHAT)), np.nan)
    numbers[:, :-4] = _decayed(runs, event_ms, when)
    numbers[:, -4] = 0
    ages = [(when[found] - event) / DAY_MS for event in (oldest, newest)]
    numbers[found, -4:] = np.stack([days, ages[0], gap_days, ages[1] / gap_days], axis=1)
    return numbers.astype(np.float32)[asked]


def _distinct_days(runs: Runs, event_key: I64, event_ms: I64) -> I64:
    """Gives the number of different days (UTC) of the events before each question that has any. (F,)."""
    day, key = event_ms[runs.order] // DAY_MS, event_key[runs.order]
    # How many of the sorted events, up to each, are on another day than the one before.
    turns = np.append(0, np.cumsum((day[1:] != day[:-1]) | (key[1:] != key[:-1])))
    found = runs.sizes > 0
    days: I64 = turns[runs.stop[found] - 1] - turns[runs.start[found]] + 1
    return days


def _decayed(runs: Runs, event_ms: I64, when: I64) -> F64:
    """Gives the counts of events before each question, each worth half after so many days. (Q, half-lives)."""
    counts = np.zeros((len(when), len(HALF_LIVES_DAYS)))
    for questions in runs.chunks():
        question, row = runs.pairs(questions)
        age_days = (when[question] - event_ms[row]) / DAY_MS
        for column, half_life in enumerate(HALF_LIVES_DAYS):
            counts[questions, column] = np.bincount(
                question - questions.start, np.exp2(-age_days / half_life), questions.stop - questions.start
            )
    return counts
