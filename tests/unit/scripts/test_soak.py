"""Growth of memory, and what of a soak is a failure."""

from __future__ import annotations

import os

import numpy as np
import pytest

from scripts.bench.overload.served import seconds_until_well
from scripts.soak import growth, held_by


def test_growth_is_the_slope_behind_the_warm_up():
    seconds = np.arange(0.0, 100.0)
    values = np.where(seconds < 20, 300.0 * seconds, 6_000.0 + (seconds - 20) * 0.01)
    assert growth(seconds.tolist(), values.tolist()) == pytest.approx(36.0)
    assert growth(seconds.tolist(), [7.0] * 100) == pytest.approx(0.0, abs=1e-9)


def test_what_a_process_holds_is_read_from_the_system():
    before = held_by(os.getpid())
    with open(os.devnull) as _, open(os.devnull) as _again:
        rss_mib, descriptors, threads = held_by(os.getpid())
    assert rss_mib > 10
    assert descriptors == before[1] + 2
    assert threads >= 1


@pytest.mark.parametrize(
    ("good", "seconds"), [([10, 10, 10], 0.0), ([3, 10, 10], 1.0), ([10, 9, 10], 2.0), ([10, 10, 2], None)]
)
def test_a_service_is_well_when_every_further_second_is(good, seconds):
    assert seconds_until_well(good, [10, 10, 10]) == seconds
