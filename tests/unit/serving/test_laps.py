from __future__ import annotations

import time

import pytest

from serving.call import lap
from serving.laps import Laps


def test_stages_follow_one_another_and_add_up():
    laps = Laps()
    time.sleep(0.02)
    laps.lap("read")
    laps.lap("hard")
    time.sleep(0.01)
    laps.lap("read")
    seconds = laps.seconds()
    assert list(seconds) == ["read", "hard"]
    assert seconds["read"] >= 0.03 > 0.01 > seconds["hard"] >= 0
    every = laps.all()
    assert [each.stage for each in every] == ["read", "hard", "read"]
    assert [each.end_s for each in every[:-1]] == [each.start_s for each in every[1:]]
    assert sum(seconds.values()) == pytest.approx(every[-1].end_s - every[0].start_s)


def test_outside_of_a_server_a_lap_does_nothing():
    lap("read")
