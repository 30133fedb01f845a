"""Round trips of the record format, the fast encoder against its plain twin, and `UserColumns` against plain lists."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import CorruptRecordError
from store.keys import user_key
from store.records import block_codec
from store.records.block_codec import encode_block
from store.records.codec import decode_extras, decode_user, encode_user, num_rows
from store.types import NO_ID, parse_id
from tests.worlds.blocks import random_block, user_of

WIDTHS = [np.uint8, np.uint16, np.uint32, np.uint64]


@st.composite
def blocks(draw, min_users=0, max_users=8):
    return random_block(
        draw(st.lists(st.integers(0, 40), min_size=min_users, max_size=max_users)),
        draw(st.integers(0, 2**32 - 1)),
        item=draw(st.sampled_from([np.uint32, np.uint64])),
        scene=draw(st.sampled_from([np.uint8, np.uint16])),
        category=draw(st.sampled_from(WIDTHS)),
        keyed=draw(st.booleans()),
        fields=draw(st.lists(st.sampled_from([*WIDTHS, np.float32]), max_size=4)),
    )


def users():
    return blocks(min_users=1, max_users=1).map(lambda block: user_of(block, 0))


def as_bytes(columns, extras):
    arrays = [columns.node, columns.timestamp_ms, columns.item, columns.scene, columns.rank, columns.order]
    arrays += [extras.category, *extras.fields] + ([] if extras.key is None else [extras.key])
    short = [array.astype(np.uint16) if array is columns.rank or array is columns.order else array for array in arrays]
    return columns.sections, [(array.dtype, array.tobytes()) for array in short]


@given(blocks(), st.sampled_from([1, 16, 10**9]), st.sampled_from([1, 30, 65536]))
@settings(max_examples=200, deadline=None)
def test_a_block_holds_the_records_of_the_plain_encoder(block, rows_to_slice, chunk_rows):
    with mock.patch.multiple(block_codec, _ROWS_TO_SLICE=rows_to_slice, _CHUNK_ROWS=chunk_rows):
        encoded = encode_block(block)
    records = list(encoded.records())
    assert [key for key, _ in records] == [user_key(user) for user in block.users.tolist()] == encoded.keys()
    for at, (_, record) in enumerate(records):
        assert bytes(record) == encode_user(*user_of(block, at))
    assert encoded.data.tobytes() == b"".join(record for _, record in records)


@given(users())
def test_a_record_gives_back_what_was_written(user):
    record = encode_user(*user)
    decoded = decode_user(memoryview(record), check=True), decode_extras(memoryview(record))
    assert len(record) % 8 == 0
    assert num_rows(record) == user[0].num_behaviors
    assert as_bytes(*decoded) == as_bytes(*user)
    assert encode_user(*decoded) == record


@given(users(), st.data())
def test_damage_anywhere_is_found(user, data):
    record = bytearray(encode_user(*user))
    bit = data.draw(st.integers(0, len(record) * 8 - 1))
    record[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptRecordError):
        decode_user(bytes(record), check=True)
    with pytest.raises(CorruptRecordError):
        decode_user(bytes(record[: data.draw(st.integers(0, len(record) - 1))]), check=True)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_record_never_do_worse_than_raise(data):
    for read in (decode_user, decode_extras, num_rows):
        with pytest.raises(CorruptRecordError):
            read(data)


@given(users(), st.integers(-1, 2**45 + 1))
@settings(max_examples=200, deadline=None)
def test_the_rows_before_a_time_are_those_of_the_first_ranks(user, time_ms):
    columns = decode_user(encode_user(*user))
    earlier = columns.timestamp_ms < time_ms
    assert columns.num_before(time_ms) == np.count_nonzero(earlier)
    assert ((columns.rank < columns.num_before(time_ms)) == earlier).all()


@given(st.one_of(st.integers(0, NO_ID - 1), st.text(min_size=1)))
def test_ids_are_64_bit_and_the_same_as_text(value):
    key = parse_id(value) if value != str(NO_ID) else 0
    assert 0 <= key < NO_ID
    assert parse_id(str(key)) == key
