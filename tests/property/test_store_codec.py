"""Round trips of the record format, and `UserColumns` against plain lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.codec import decode_user, encode_user
from store.errors import CorruptRecordError
from store.types import NO_ID, Section, UserColumns, parse_id


@st.composite
def user_columns(draw):
    """Columns as the base orders them, from random events."""
    size = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stream = rng.integers(0, draw(st.integers(1, 6)), size)
    node = rng.integers(0, 5, size).astype(np.uint32)
    time = rng.integers(0, draw(st.integers(1, 2**50)), size)
    by_time = np.argsort(time, kind="stable")
    rank = np.empty(size, np.uint32)
    rank[by_time] = np.arange(size, dtype=np.uint32)
    rows = np.lexsort((rank, node, stream))
    order = np.empty(size, np.uint32)
    order[rank[rows]] = np.arange(size, dtype=np.uint32)
    sections = tuple(
        Section(domain=int(s) * 40, action=255 - int(s), start=int(rows_of[0]), stop=int(rows_of[-1]) + 1)
        for s in np.unique(stream)
        for rows_of in [np.flatnonzero(stream[rows] == s)]
    )
    return UserColumns(
        sections=sections,
        node=node[rows],
        timestamp_ms=time[rows],
        item=rng.integers(0, 2**64, size, np.uint64)[rows],
        scene=rng.integers(0, 2**16, size, np.uint16)[rows],
        rank=rank[rows],
        order=order,
    )


def as_lists(columns):
    arrays = (columns.node, columns.timestamp_ms, columns.item, columns.scene, columns.rank, columns.order)
    return (columns.sections, *(array.tolist() for array in arrays))


@given(user_columns())
def test_a_record_gives_back_what_was_written(columns):
    record = encode_user(columns)
    assert len(record) % 8 == 0
    assert as_lists(decode_user(record, check=True)) == as_lists(columns)
    assert encode_user(decode_user(memoryview(record))) == record


@given(user_columns(), st.data())
def test_damage_anywhere_is_found(columns, data):
    record = bytearray(encode_user(columns))
    bit = data.draw(st.integers(0, len(record) * 8 - 1))
    record[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptRecordError):
        decode_user(bytes(record), check=True)
    with pytest.raises(CorruptRecordError):
        decode_user(bytes(record[: data.draw(st.integers(0, len(record) - 1))]), check=True)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_record_never_do_worse_than_raise(data):
    with pytest.raises(CorruptRecordError):
        decode_user(data, check=True)


@given(user_columns(), st.integers(-1, 2**50 + 1))
@settings(max_examples=200)
def test_before_equals_leaving_the_rows_out(columns, as_of_ms):
    cut = columns.before(as_of_ms)
    rows = [row for row in range(columns.num_behaviors) if columns.timestamp_ms[row] < as_of_ms]
    assert cut.item.tolist() == columns.item[rows].tolist()
    assert cut.node.tolist() == columns.node[rows].tolist()
    by_rank = sorted(range(len(rows)), key=lambda at: columns.rank[rows[at]])
    assert cut.order.tolist() == by_rank
    assert cut.rank[cut.order].tolist() == list(range(len(rows)))
    domain, action = cut.domain_and_action(np.arange(len(rows)))
    whole = columns.domain_and_action(np.array(rows, np.int64))
    assert (domain.tolist(), action.tolist()) == (whole[0].tolist(), whole[1].tolist())


@given(st.one_of(st.integers(0, NO_ID - 1), st.text(min_size=1)))
def test_ids_are_64_bit_and_the_same_as_text(value):
    key = parse_id(value) if value != str(NO_ID) else 0
    assert 0 <= key < NO_ID
    assert parse_id(str(key)) == key
