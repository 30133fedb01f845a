from __future__ import annotations

import pytest

from serving.deadline import Deadline


def test_a_deadline_counts_down_and_never_below_zero():
    assert 0 < Deadline.after(60).remaining_s() <= 60
    assert not Deadline.after(60).expired
    assert Deadline.after(-1).remaining_s() == 0
    assert Deadline.after(-1).expired


def test_a_reserve_makes_the_deadline_earlier_and_leaves_the_first_one_alone():
    whole = Deadline.after(60)
    part = whole.less(20)
    assert whole.at_s - part.at_s == pytest.approx(20)
    assert whole.less(61).expired
    assert not whole.expired
