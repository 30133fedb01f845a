"""The cut at a time: strictly before it, and of equal times all or none."""

import numpy as np
import pytest

from store.types import Section, UserColumns

TIMES = np.array([5, 5, 7, 9, 9])


@pytest.mark.parametrize(("time_ms", "count"), [(0, 0), (5, 0), (6, 2), (7, 2), (8, 3), (9, 3), (10, 5), (10**12, 5)])
def test_nothing_at_or_after_the_time_counts(time_ms, count):
    """Rows stand by node, and in time order only through `order`."""
    order = np.array([3, 0, 4, 1, 2], np.uint16)
    columns = UserColumns(
        sections=(Section(domain=0, action=0, start=0, stop=5),),
        node=np.arange(5, dtype=np.uint32),
        timestamp_ms=TIMES[np.argsort(order)],
        item=np.zeros(5, np.uint64),
        scene=np.zeros(5, np.uint16),
        rank=np.argsort(order).astype(np.uint16),
        order=order,
    )
    assert columns.num_before(time_ms) == count


def test_nobody_has_nothing_before_any_time():
    assert UserColumns.empty().num_before(10**12) == 0
