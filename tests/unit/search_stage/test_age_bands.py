"""Age bands of the time term: each behavior is in one, and of equally good ones the newest are found."""

from __future__ import annotations

import numpy as np
import pytest

from search_stage.config import AgeBonus
from search_stage.history import History
from search_stage.soft.engines import make_engine
from search_stage.soft.time_term import bands_of, search_bands
from store.types import Section, UserColumns
from tests.worlds.soft import index_of

DAY_MS = 86_400_000
NUM_ROWS = 10
AS_OF_MS = NUM_ROWS * DAY_MS


def history():
    """One behavior a day, the newest of a day ago."""
    position = np.arange(NUM_ROWS, dtype=np.uint32)
    columns = UserColumns(
        sections=(Section(domain=0, action=0, start=0, stop=NUM_ROWS),),
        node=np.zeros(NUM_ROWS, np.uint32),
        timestamp_ms=position.astype(np.int64) * DAY_MS,
        item=np.zeros(NUM_ROWS, np.uint64),
        scene=np.zeros(NUM_ROWS, np.uint16),
        rank=position,
        order=position,
    )
    return History.before(columns, AS_OF_MS)


def bands(*limits):
    bonuses = [AgeBonus(max_age_days=days, add=add) for days, add in limits]
    return [(band.first, band.end, band.add) for band in bands_of(history(), bonuses, AS_OF_MS)]


def test_every_behavior_is_in_one_band():
    assert bands((2, 0.5), (5, 0.25)) == [(8, 10, 0.5), (5, 8, 0.25), (0, 5, 0.0)]


def test_a_limit_beyond_the_history_leaves_no_rest():
    assert bands((2, 0.5), (400, 0.25)) == [(8, 10, 0.5), (0, 8, 0.25)]


def test_a_limit_of_no_behavior_is_no_band():
    assert bands((0.5, 0.5), (1, 0.25)) == [(9, 10, 0.25), (0, 9, 0.0)]


@pytest.mark.parametrize("limits", [[(400, 0.5)], [(1, 0.5), (400, 0.5)], [(1, 0.5), (2, 0.5), (400, 0.5)]])
def test_of_equal_score_and_bonus_the_newest_win_also_across_bands(limits):
    index = index_of(np.ones((1, 4), np.float32))
    index.representative = np.zeros(1, np.uint32)
    parts = bands_of(history(), [AgeBonus(max_age_days=days, add=add) for days, add in limits], AS_OF_MS)
    queries = np.ones((1, 4), np.float32)
    start, rank = search_bands(make_engine("scan", index), queries, index, history(), parts, top_k=2)
    assert (start.tolist(), rank.tolist()) == ([0, 2], [NUM_ROWS - 2, NUM_ROWS - 1])
