"""Retention by hand: what is exactly at a limit stays."""

import numpy as np

from store.building.retention import Retention

OWNER = np.array([0, 0, 0, 0, 1, 1])
DOMAIN = np.array([0, 1, 0, 0, 0, 0], np.uint8)
TIME = np.array([1, 2, 3, 4, 2, 3])


def kept(**limits):
    return Retention(**limits).keep(OWNER, DOMAIN, TIME).tolist()


def test_the_first_moment_that_is_kept_is_kept():
    assert kept(not_before_ms=2) == [False, True, True, True, True, True]
    assert kept(not_before_ms=3) == [False, False, True, True, False, True]


def test_the_newest_that_many_of_each_domain_are_kept():
    assert kept(max_per_domain=2) == [False, True, True, True, True, True]
    assert kept(max_per_domain=1) == [False, True, False, True, False, True]


def test_without_limits_all_stays():
    assert kept() == [True] * 6
