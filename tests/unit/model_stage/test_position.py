"""Positional buckets: literal values, and the tables that belong to one target alone."""

from __future__ import annotations

import torch

from model_stage.blocks.position import position_buckets
from model_stage.config.targets import CalendarPosition, IntervalPosition, MatchLevelPosition, RankPosition

DAY = 86_400_000


def buckets(position, *, rank=(), interval_ms=(), level=()):
    (values,) = (each for each in (rank, interval_ms, level) if len(each))
    return position_buckets(position, torch.tensor(values, dtype=torch.int64)).tolist()


def test_rank_counts_from_the_newest_and_shares_the_last_bucket():
    assert buckets(RankPosition(kind="rank", buckets=3), rank=[1, 2, 3, 4, 900]) == [0, 1, 2, 2, 2]


def test_interval_buckets_widen_with_age_and_end_at_the_span():
    position = IntervalPosition(kind="interval", buckets=10, span_days=365)
    got = buckets(position, interval_ms=[1, 60_000, DAY // 24, DAY, 30 * DAY, 365 * DAY - 1, 4000 * DAY])
    assert got == sorted(got)
    assert got[0] == 0
    assert got[-2:] == [9, 9]
    assert len(set(got)) >= 5


def test_interval_keeps_milliseconds_apart_where_float32_could_not():
    position = IntervalPosition(kind="interval", buckets=4096, span_days=3650)
    first, second = buckets(position, interval_ms=[3600 * DAY, 3650 * DAY])
    assert second > first


def test_calendar_puts_the_same_phase_together():
    position = CalendarPosition(kind="calendar", period="week", buckets=7)
    hour = DAY // 24
    got = buckets(position, interval_ms=[7 * DAY, 14 * DAY + hour, 14 * DAY - hour, 3 * DAY, 10 * DAY])
    assert got[:3] == [0, 0, 0]
    assert got[3] == got[4] == 3


def test_match_level_has_a_bucket_for_not_found():
    assert buckets(MatchLevelPosition(kind="match_level", levels=3), level=[0, 1, 2, 3, 255]) == [0, 1, 2, 3, 3]
