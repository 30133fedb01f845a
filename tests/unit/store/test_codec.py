import re
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import xxhash

from store.errors import CorruptRecordError, InputError
from store.keys import user_key
from store.records import block_codec
from store.records.block_codec import encode_block
from store.records.codec import decode_extras, decode_user, encode_user, num_rows
from store.types import NO_ID, Section, UserColumns, UserExtras
from tests.worlds.blocks import random_block, user_of

DATA = Path(__file__).parents[2] / "data"
FORMAT = Path(block_codec.__file__).parents[1] / "FORMAT.md"
NAMES = ("node", "timestamp_ms", "item", "scene", "rank", "order")
NO_EXTRAS = UserExtras(category=np.empty(0, np.uint8), key=None, fields=())


@pytest.fixture
def columns():
    """The picture of the `UserColumns` docstring."""
    return UserColumns(
        sections=(Section(domain=1, action=2, start=0, stop=6), Section(domain=3, action=0, start=6, stop=8)),
        node=np.array([4, 4, 4, 7, 9, 9, 4, 8], np.uint32),
        timestamp_ms=np.array([1, 5, 8, 2, 3, 9, 6, 7]),
        item=np.array([2**64 - 2, 11, 12, 13, 14, 15, 16, 0], np.uint64),
        scene=np.array([0, 1, 65535, 0, 0, 2, 0, 0], np.uint16),
        rank=np.array([0, 3, 6, 1, 2, 7, 4, 5], np.uint16),
        order=np.array([0, 3, 4, 1, 6, 7, 2, 5], np.uint16),
    )


@pytest.fixture
def extras():
    return UserExtras(
        category=np.array([1, 1, 255, 0, 254, 2, 3, 3], np.uint8),
        key=np.array([1, NO_ID, 3, 4, 5, 6, 7, 2**64 - 2], np.uint64),
        fields=(np.array([0.5, np.nan, 1, 2, 3, 4, 5, -6], np.float32), np.array([0, 1, 2, 3, 65535, 5, 6, 7], "<u2")),
    )


@pytest.fixture
def record(columns, extras):
    return encode_user(columns, extras)


def assert_equal(left, right):
    assert left.sections == right.sections
    for name in NAMES:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), strict=True)


def assert_equal_extras(left, right):
    np.testing.assert_array_equal(left.category, right.category, strict=True)
    assert (left.key is None) == (right.key is None)
    if left.key is not None:
        np.testing.assert_array_equal(left.key, right.key, strict=True)
    assert len(left.fields) == len(right.fields)
    for one, other in zip(left.fields, right.fields, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def signed(body):
    """A record of version 2 with the right checksum."""
    return struct.pack("<4sHHQ", b"LBUC", 2, 0, xxhash.xxh3_64_intdigest(body)) + body


def test_golden_bytes_of_version_2(columns, extras, record):
    golden = (DATA / "record-v2.bin").read_bytes()
    assert record == golden
    assert_equal(decode_user(golden, check=True), columns)
    assert_equal_extras(decode_extras(golden), extras)


def test_records_of_other_versions_are_refused_naming_both(record):
    later = bytearray(record)
    later[4] = 9
    for data, version in (((DATA / "record-v1.bin").read_bytes(), 1), (bytes(later), 9)):
        for read in (decode_user, decode_extras, num_rows):
            with pytest.raises(CorruptRecordError, match=f"format version {version}, this program reads 2"):
                read(data)


def test_the_picture_of_the_format_is_a_record():
    """FORMAT.md shows a record with one behavior as hexadecimal bytes."""
    lines = re.findall(r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?)+)", FORMAT.read_text().partition("## Delta")[0], re.MULTILINE)
    pictured = bytes.fromhex("".join(lines))
    decoded = decode_user(pictured, check=True)
    assert decoded.sections == (Section(domain=1, action=2, start=0, stop=1),)
    assert [getattr(decoded, name).tolist() for name in NAMES] == [[4], [1_700_000_000_000], [7], [3], [0], [0]]
    assert decode_extras(pictured).category.tolist() == [2]
    assert encode_user(decoded, decode_extras(pictured)) == pictured


def test_decoding_copies_nothing_and_is_read_only(record):
    decoded, extras = decode_user(record), decode_extras(record)
    for array in (decoded.node, decoded.order, extras.category, extras.key, *extras.fields):
        assert not array.flags.writeable
        assert not array.flags.owndata
        assert array.flags.aligned
    assert len(record) % 8 == 0
    assert num_rows(record) == 8


def test_the_empty_history_has_a_record():
    record = encode_user(UserColumns.empty(), NO_EXTRAS)
    assert_equal(decode_user(record, check=True), UserColumns.empty())
    assert_equal_extras(decode_extras(record), NO_EXTRAS)


def test_positions_are_short_while_they_fit():
    for length, dtype in ((65536, np.uint16), (65537, np.uint32)):
        block = random_block([length], seed=length)
        (record,) = [bytes(record) for _, record in encode_block(block).records()]
        columns, extras = user_of(block, 0)
        assert record == encode_user(columns, extras)
        decoded = decode_user(record, check=True)
        assert decoded.rank.dtype == decoded.order.dtype == dtype
        np.testing.assert_array_equal(decoded.rank, columns.rank)
        np.testing.assert_array_equal(decoded.timestamp_ms[decoded.order], np.sort(columns.timestamp_ms))


def test_a_block_of_short_and_long_users_holds_the_records_of_each():
    block = random_block([3, 0, 300, 70_000, 1, 65_536, 9], seed=3, keyed=True, fields=(np.float32, np.uint8))
    encoded = encode_block(block)
    assert encoded.keys() == sorted(user_key(user) for user in block.users.tolist())
    for at, (key, record) in enumerate(encoded.records()):
        assert key == user_key(int(block.users[at]))
        assert record == encode_user(*user_of(block, at))


def test_a_block_of_nobody_is_empty():
    assert list(encode_block(random_block([], seed=1)).records()) == []


def test_a_user_with_too_much_is_named(monkeypatch):
    block = random_block([1, 50], seed=1)
    monkeypatch.setattr(block_codec, "_MAX_RECORD_BYTES", 1000)
    with pytest.raises(InputError, match=f"user {block.users[1]}: a record of .* retention"):
        encode_block(block)


def test_every_truncation_is_found_without_reading_everything(record):
    for length in range(len(record)):
        for read in (decode_user, decode_extras, num_rows):
            with pytest.raises(CorruptRecordError):
                read(record[:length])
    with pytest.raises(CorruptRecordError):
        decode_user(record + bytes(8))


def test_every_flipped_bit_is_found(record):
    for bit in range(len(record) * 8):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecordError):
            decode_user(bytes(damaged), check=True)


def test_without_the_check_a_damaged_header_never_reads_outside(record):
    for at in range(16, 24 + 24 + 16):
        for value in range(256):
            damaged = bytearray(record)
            damaged[at] = value
            with suppress(CorruptRecordError):
                decoded, extras = decode_user(bytes(damaged)), decode_extras(bytes(damaged))
                assert sum(array.sum() for array in (decoded.node, decoded.item, decoded.order, extras.category)) >= 0


def test_a_reader_passes_over_columns_it_does_not_know():
    """FORMAT.md: a writer MAY add columns with the numbers 9 to 15 without a new version."""
    block = random_block([5], seed=2)
    columns, extras = user_of(block, 0)
    record = encode_user(columns, extras)
    assert record[24:40] == bytes([2, 6, 1, 3, 3, 3, 5, 2, 6, 2, 7, 2, 4, 1, 0, 0])
    directory = record[24:36] + bytes([11, 2]) + record[36:38]  # 16 bits: before scene, behind the others of its width
    data_at = 40 + 8 * len(columns.sections)
    before = record[data_at : data_at + 5 * (8 + 4 + 4 + 2 + 2 + 2)]
    data = before + bytes(range(10)) + record[data_at + len(before) : data_at + len(before) + 5]
    body = record[16:22] + bytes([8, 0]) + directory + record[40:data_at] + data + bytes(-len(data) % 8)
    assert_equal(decode_user(signed(body), check=True), decode_user(record))
    assert_equal_extras(decode_extras(signed(body)), extras)


@pytest.mark.parametrize(
    ("at", "pair", "message"),
    [
        (0, [2, 4], "column 2 is absent or of another type"),
        (0, [2, 99], "column 2 has the unknown type 99"),
        (0, [12, 6], "column 2 is absent"),
        (4, [1, 3], "column 1 is out of place"),
        (2, [1, 1], "column 3 is out of place"),
        (12, [0, 1], "column 0 is out of place"),
        (12, [8, 1], "column 4 is absent"),
        (14, [1, 0], "column directory is damaged"),
    ],
)
def test_a_wrong_column_directory_is_refused(at, pair, message):
    block = random_block([5], seed=2)
    body = bytearray(encode_user(*user_of(block, 0))[16:])
    body[8 + at : 10 + at] = pair
    with pytest.raises(CorruptRecordError, match=message):
        decode_user(signed(bytes(body)), check=True)


def test_a_field_number_that_is_left_out_and_an_event_key_of_another_type_are_refused():
    block = random_block([5], seed=2, keyed=True, fields=(np.uint8, np.uint8))
    record = encode_user(*user_of(block, 0))
    for pair, other, message in ((b"\x11\x01", b"\x12\x01", "column 17"), (b"\x08\x04", b"\x08\x06", "column 8")):
        assert record.count(pair, 24, 48) == 1
        with pytest.raises(CorruptRecordError, match=message):
            decode_extras(record.replace(pair, other, 1))


def test_more_rows_than_short_positions_can_count_are_refused():
    body = bytearray(encode_user(*user_of(random_block([65536], seed=4), 0))[16:])
    width = (len(body) - 24) // 65536
    struct.pack_into("<I", body, 0, 65536 + 8)
    with pytest.raises(CorruptRecordError, match="a record of 65544 rows"):
        decode_user(signed(bytes(body) + bytes(8 * width)))


@pytest.mark.parametrize(("time_ms", "expected"), [(0, 0), (1, 0), (2, 1), (6, 4), (9, 7), (10, 8)])
def test_the_number_of_rows_before_a_time(columns, time_ms, expected):
    assert columns.num_before(time_ms) == expected
    assert UserColumns.empty().num_before(time_ms) == 0
