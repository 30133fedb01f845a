from __future__ import annotations

import pytest

from serving.server.valve import SHUT_S, STANDING_S, Valve

FEW, MANY = 3, 10


@pytest.fixture
def valve():
    found = Valve(FEW, MANY)
    assert not found.turns_away(0, 100.0)
    return found


def test_a_burst_is_let_in_up_to_many(valve):
    assert [valve.turns_away(inside, 100.0 + inside / 1000) for inside in range(12)] == [False] * MANY + [True] * 2
    assert not valve.turns_away(FEW, 100.0 + STANDING_S - 0.01)


def test_what_stands_shuts_it_and_few_open_it_for_themselves(valve):
    assert valve.turns_away(FEW, 100.001 + STANDING_S)
    assert not valve.turns_away(FEW - 1, 100.11)
    assert valve.turns_away(FEW, 100.12)
    # Each that is turned away shuts it anew.
    assert valve.turns_away(FEW, 100.12 + 0.9 * SHUT_S)
    assert not valve.turns_away(FEW - 1, 100.12 + 1.8 * SHUT_S)
    assert valve.turns_away(FEW, 100.12 + 1.8 * SHUT_S)


def test_it_opens_when_for_some_time_nobody_had_to_be_turned_away(valve):
    assert valve.turns_away(FEW, 101.0)
    assert not valve.turns_away(FEW - 1, 101.0 + SHUT_S)
    assert not valve.turns_away(MANY - 1, 101.0 + SHUT_S)


def test_bursts_one_after_another_are_none_that_stands(valve):
    for start_s in (100.0, 100.2, 100.4, 100.6):
        assert not any(valve.turns_away(inside, start_s + inside / 200) for inside in range(MANY))
