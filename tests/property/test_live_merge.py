"""Base and delta rows of one user merged, against putting all rows in one list and sorting it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import store.reading.merge
from store.reading.merge import LiveRows, merge_columns
from store.types import Section, UserColumns

LARGE = (255, 256, 65_535, 65_536, 2**32 - 2, 2**32 - 1, 2**64 - 2)


@st.composite
def rows(draw, max_size=12):
    """Plain rows (stream, node, time, item, scene) in the order in which they arrived."""
    values = st.tuples(
        st.sampled_from([0, 1, 256, 513, 65_535]),
        st.integers(0, 3),
        st.integers(0, 4),
        st.one_of(st.integers(0, 9), st.sampled_from(LARGE)),
        st.sampled_from([0, 1, 255, 256, 65_535]),
    )
    return draw(st.lists(values, max_size=max_size))


def reference(arrived):
    """The columns of plain rows, sorted as `UserColumns` says, one row at a time."""
    by_time = sorted(range(len(arrived)), key=lambda at: arrived[at][2])
    rank = {at: position for position, at in enumerate(by_time)}
    record = sorted(range(len(arrived)), key=lambda at: (*arrived[at][:2], rank[at]))
    streams = [arrived[at][0] for at in record]
    sections = [
        (stream >> 8, stream & 255, streams.index(stream), streams.index(stream) + streams.count(stream))
        for stream in sorted(set(streams))
    ]
    order = [record.index(at) for at in by_time]
    columns = [[arrived[at][field] for at in record] for field in range(1, 5)]
    return sections, *columns, [rank[at] for at in record], order


def as_lists(columns):
    sections = [(s.domain, s.action, s.start, s.stop) for s in columns.sections]
    arrays = (columns.node, columns.timestamp_ms, columns.item, columns.scene, columns.rank, columns.order)
    return sections, *(array.tolist() for array in arrays)


def as_columns(arrived):
    """The columns of a record: narrow where the values allow it."""
    sections, node, time, item, scene, rank, order = reference(arrived)
    return UserColumns(
        sections=tuple(Section(domain=d, action=a, start=start, stop=stop) for d, a, start, stop in sections),
        node=np.array(node, np.uint32),
        timestamp_ms=np.array(time, np.int64),
        item=np.array(item, np.uint32 if max(item, default=0) < 2**32 - 1 else np.uint64),
        scene=np.array(scene, np.uint8 if max(scene, default=0) < 256 else np.uint16),
        rank=np.array(rank, np.uint16),
        order=np.array(order, np.uint16),
    )


def as_live(arrived):
    stream, node, time, item, scene = zip(*arrived, strict=True) if arrived else ((), (), (), (), ())
    return LiveRows(
        stream=np.array(stream, np.uint16),
        node=np.array(node, np.uint32),
        timestamp_ms=np.array(time, np.int64),
        item=np.array(item, np.uint64),
        scene=np.array(scene, np.uint16),
    )


@pytest.fixture(params=[0, 16, 1 << 40], ids=["inserted", "as it comes", "sorted"])
def _many(request, monkeypatch):
    monkeypatch.setattr(store.reading.merge, "_MANY", request.param)


@pytest.mark.usefixtures("_many")
@settings(suppress_health_check=[], max_examples=200)
@given(base=rows(), live=rows())
def test_merging_equals_sorting_everything(base, live):
    before = as_columns(base)
    merged = merge_columns(before, as_live(live))
    assert as_lists(merged) == reference(base + live)
    assert merged.item.dtype in (before.item.dtype, np.uint64)
    assert merged.scene.dtype in (before.scene.dtype, np.uint16)
    assert merged.rank.dtype == merged.order.dtype == np.uint16
    assert as_lists(before) == reference(base)


@given(live=rows())
def test_a_user_without_base_rows(live):
    assert as_lists(merge_columns(UserColumns.empty(), as_live(live))) == reference(live)


@given(first=rows(), second=rows(), third=rows())
def test_merging_twice_equals_merging_once(first, second, third):
    twice = merge_columns(merge_columns(as_columns(first), as_live(second)), as_live(third))
    assert as_lists(twice) == as_lists(merge_columns(as_columns(first), as_live(second + third)))


@pytest.mark.parametrize("size", [65_530, 65_536, 70_000])
def test_ranks_grow_wider_with_the_number_of_rows(size):
    rng = np.random.default_rng(size)

    def some(count):
        return LiveRows(
            stream=rng.choice([1, 2, 300], count).astype(np.uint16),
            node=rng.integers(0, 50, count).astype(np.uint32),
            timestamp_ms=rng.integers(0, 1000, count),
            item=rng.integers(0, 1000, count).astype(np.uint64),
            scene=rng.integers(0, 9, count).astype(np.uint16),
        )

    base, live = some(size), some(20)
    columns = merge_columns(UserColumns.empty(), base)
    assert columns.rank.dtype == columns.order.dtype == (np.uint16 if size <= 65_536 else np.uint32)
    merged = merge_columns(columns, live)
    assert merged.rank.dtype == merged.order.dtype == (np.uint16 if size + 20 <= 65_536 else np.uint32)
    both = LiveRows(**{name: np.concatenate((getattr(base, name), getattr(live, name))) for name in LiveRows.__slots__})
    assert as_lists(merged) == as_lists(merge_columns(UserColumns.empty(), both))
