"""Who waits in which order, and who is refused: with a clock that the test sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.line import HEADROOM, ON_THE_WAY_S, PATIENCE_S, Line, Ticket
from serving.server.pace import Pace, Priority, request_units

SLACK_S = ON_THE_WAY_S + 1e-9


def ticket(deadline_s, *, cost_s=0.1, priority=Priority.SERVE, caller="a", arrived_s=0.0):
    return Ticket(priority=priority, deadline_s=deadline_s, arrived_s=arrived_s, cost_s=cost_s, caller=caller)


def turns(line, now_s=0.0):
    """Everybody whose turn comes, as if no time passed."""
    called = []
    while (found := line.next(now_s))[0] is not None:
        called.append(found[0])
        assert found[1] == []
    return called


def test_the_earliest_deadline_comes_first_and_of_equal_ones_who_came_first():
    line, waiting = Line(1, 10), [ticket(at, cost_s=0.001) for at in (0.09, 0.08, 0.09, 0.07)]
    for each in waiting:
        assert list(line.join(each, 0.0, 0.0)) == []
    assert turns(line) == [waiting[3], waiting[1], waiting[0], waiting[2]]


def test_who_has_much_time_is_passed_for_a_while_and_not_for_ever():
    line, patient = Line(1, 10), ticket(9, cost_s=0.001)
    first, second = (ticket(at + PATIENCE_S - 0.01, cost_s=0.001, arrived_s=at) for at in (0.0, 0.02))
    for each in (patient, first, second):
        assert list(line.join(each, each.arrived_s, 0.0)) == []
    assert turns(line, 0.02) == [first, patient, second]


def test_a_more_urgent_kind_comes_before_any_deadline():
    line = Line(1, 10)
    waiting = [ticket(5, priority=Priority.READ), ticket(6, priority=Priority.EXPLAIN), ticket(9)]
    for each in waiting:
        assert list(line.join(each, 0.0, 0.0)) == []
    assert turns(line) == waiting[::-1]


def test_who_cannot_be_in_time_is_refused_when_he_comes():
    line = Line(2, 10)
    assert list(line.join(ticket(0.15), 0.0, 0.0)) == []
    soonest_s = 0.1 / 2 / HEADROOM + 0.1 + SLACK_S
    late, in_time = ticket(soonest_s - 0.001), ticket(soonest_s)
    assert list(line.join(late, 0.0, 0.0)) == [late]
    assert list(line.join(in_time, 0.0, 0.0)) == []


def test_who_runs_counts_as_half_done():
    line = Line(2, 10)
    late = ticket(0.1 / HEADROOM + 0.1 + SLACK_S - 0.001)
    assert list(line.join(late, 0.0, 0.2)) == [late]
    in_time = ticket(0.1 / HEADROOM + 0.1 + SLACK_S)
    assert list(line.join(in_time, 0.0, 0.2)) == []


def test_nobody_who_waits_is_passed_and_then_sent_away():
    line, patient, hasty = Line(1, 10), ticket(0.2, cost_s=0.15), ticket(0.09, cost_s=0.06)
    for each, refused in ((patient, []), (hasty, [hasty])):
        assert list(line.join(each, 0.0, 0.0)) == refused
    assert turns(line) == [patient]


def test_who_is_passed_by_a_more_urgent_kind_is_refused_then_and_not_later():
    line, explain = Line(1, 10), ticket(0.5, cost_s=0.3, priority=Priority.EXPLAIN)
    for each, refused in ((explain, []), (ticket(0.5, cost_s=0.2), [explain])):
        assert list(line.join(each, 0.0, 0.0)) == refused


def test_whom_the_estimate_deceived_is_passed_over_when_his_turn_comes():
    line, early, late = Line(1, 10), ticket(0.2), ticket(1.0)
    for each in (early, late):
        assert list(line.join(each, 0.0, 0.0)) == []
    assert line.next(0.15) == (late, [early])


def test_a_caller_with_much_in_the_line_gives_way_to_one_with_little():
    line = Line(1, 10)
    heavy = [ticket(1.0, caller="heavy") for _ in range(7)]
    for each in heavy:
        assert list(line.join(each, 0.0, 0.0)) == []
    one_too_many = ticket(1.0, caller="heavy")
    assert list(line.join(one_too_many, 0.0, 0.0)) == [one_too_many]
    light = ticket(1.0, caller="light")
    assert list(line.join(light, 0.0, 0.0)) == [heavy[-1]]
    assert turns(line) == [*heavy[:-1], light]


def test_nobody_of_a_more_urgent_kind_gives_way():
    line = Line(1, 10)
    heavy = [ticket(1.0, caller="heavy") for _ in range(6)]
    for each in heavy:
        assert list(line.join(each, 0.0, 0.0)) == []
    light = ticket(0.7, caller="light", priority=Priority.READ)
    assert list(line.join(light, 0.0, 0.0)) == [light]


def test_of_too_many_the_least_urgent_of_the_heaviest_caller_goes():
    line = Line(1, 2)
    read, first, second = ticket(9, priority=Priority.READ), ticket(9), ticket(9, caller="b")
    for each in (read, first, second):
        assert list(line.join(each, 0.0, 0.0)) == []
    assert list(line.surplus()) == [read]
    third = ticket(9)
    assert list(line.join(third, 0.0, 0.0)) == []
    assert list(line.surplus()) == [third]
    assert len(line) == 2


def test_the_time_until_all_had_their_turn():
    line = Line(2, 10)
    for _ in range(4):
        assert list(line.join(ticket(9), 0.0, 0.0)) == []
    assert line.wait_s(0.2) == pytest.approx(0.1 + 0.2)


tickets = st.builds(
    ticket,
    st.floats(0, 2),
    cost_s=st.floats(0, 0.5),
    priority=st.sampled_from(list(Priority)),
    caller=st.sampled_from("abc"),
)


@given(st.lists(st.tuples(tickets, st.floats(0, 0.1)), max_size=30), st.integers(1, 4), st.integers(0, 8))
def test_whoever_waits_could_still_be_in_time_and_everybody_is_answered_once(arrivals, places, most):
    line, now_s, answered, waiting = Line(places, most), 0.0, [], []
    for each, pause_s in arrivals:
        now_s += pause_s
        each.arrived_s = now_s
        waiting.append(each)
        for refused in (*line.join(each, now_s, 0.0), *line.surplus()):
            waiting.remove(refused)
            answered.append(refused)
        assert len(line) == len(waiting) <= most
        before_s = 0.0
        for one in sorted(waiting, key=lambda one: (one.priority, min(one.deadline_s, one.arrived_s + PATIENCE_S))):
            assert now_s + before_s / HEADROOM + one.cost_s + ON_THE_WAY_S <= one.deadline_s + 1e-9
            before_s += one.cost_s / places
    answered += turns(line, now_s)
    assert sorted(map(id, answered)) == sorted(id(each) for each, _ in arrivals)


def test_a_pace_is_learned_from_what_was_done():
    pace = Pace()
    assert pace.seconds(100) == 0.0
    pace.learn(100, 0.1)
    assert pace.seconds(200) == pytest.approx(0.2)
    for _ in range(200):
        pace.learn(100, 0.3)
    assert pace.seconds(100) == pytest.approx(0.3, rel=0.01)
    pace.learn(1, 0.3)  # a small one that was held up
    assert pace.seconds(100) < 0.33


def test_candidates_and_behaviors_make_a_request_dear():
    assert request_units(1, 0) < request_units(100, 0) < request_units(100, 100_000) < request_units(1_000, 100_000)
    assert request_units(500, 100_000) > 5 * request_units(500, 1_000)
