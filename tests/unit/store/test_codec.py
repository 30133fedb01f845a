import struct
from pathlib import Path

import numpy as np
import pytest
import xxhash

from store.codec import decode_user, encode_user
from store.errors import CorruptRecordError
from store.types import Section, UserColumns

GOLDEN = Path(__file__).parents[2] / "data" / "record-v1.bin"


@pytest.fixture
def columns():
    """The picture of the `UserColumns` docstring."""
    return UserColumns(
        sections=(Section(domain=1, action=2, start=0, stop=6), Section(domain=3, action=0, start=6, stop=8)),
        node=np.array([4, 4, 4, 7, 9, 9, 4, 8], np.uint32),
        timestamp_ms=np.array([1, 5, 8, 2, 3, 9, 6, 7]),
        item=np.array([2**64 - 2, 11, 12, 13, 14, 15, 16, 0], np.uint64),
        scene=np.array([0, 1, 65535, 0, 0, 2, 0, 0], np.uint16),
        rank=np.array([0, 3, 6, 1, 2, 7, 4, 5], np.uint32),
        order=np.array([0, 3, 4, 1, 6, 7, 2, 5], np.uint32),
    )


def assert_equal(left, right):
    assert left.sections == right.sections
    for name in ("node", "timestamp_ms", "item", "scene", "rank", "order"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), strict=True)


def test_golden_bytes_of_version_1(columns):
    assert encode_user(columns) == GOLDEN.read_bytes()
    assert_equal(decode_user(GOLDEN.read_bytes(), check=True), columns)


def test_decoding_copies_nothing_and_is_read_only(columns):
    record = encode_user(columns)
    decoded = decode_user(record)
    assert not decoded.node.flags.writeable
    assert not decoded.node.flags.owndata
    assert len(record) % 8 == 0


def test_the_empty_history_has_a_record():
    assert_equal(decode_user(encode_user(UserColumns.empty()), check=True), UserColumns.empty())


def test_every_truncation_is_found(columns):
    record = encode_user(columns)
    for length in range(len(record)):
        with pytest.raises(CorruptRecordError):
            decode_user(record[:length], check=True)


def test_every_flipped_bit_is_found(columns):
    record = encode_user(columns)
    for bit in range(len(record) * 8):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecordError):
            decode_user(bytes(damaged), check=True)


def test_without_the_check_a_damaged_header_never_reads_outside(columns):
    record = encode_user(columns)
    for at in range(16, 24 + 8 * 8):
        for value in (0, 1, 127, 255):
            damaged = bytearray(record)
            damaged[at] = value
            try:
                decoded = decode_user(bytes(damaged))
            except CorruptRecordError:
                continue
            assert sum(array.sum() for array in (decoded.node, decoded.item, decoded.order)) >= 0


def test_an_unknown_version_names_both(columns):
    record = bytearray(encode_user(columns))
    record[4] = 9
    with pytest.raises(CorruptRecordError, match="format version 9, this program reads 1"):
        decode_user(bytes(record))


def test_a_reader_passes_over_columns_it_does_not_know(columns):
    """FORMAT.md: a writer MAY add columns without a new version."""
    record = encode_user(columns)
    directory = 16 + 8 + 8 * len(columns.sections)
    header = bytearray(record[16:directory])
    struct.pack_into("<H", header, 6, 7)
    entries = bytearray(record[directory : directory + 48])
    for at in range(0, 48, 8):
        struct.pack_into("<I", entries, at + 4, struct.unpack_from("<I", entries, at + 4)[0] + 8)
    added = struct.pack("<BBHI", 200, 4, 0, len(record) + 8)
    body = bytes(header) + bytes(entries) + added + record[directory + 48 :] + bytes(64)
    longer = struct.pack("<4sHHQ", b"LBUC", 1, 0, xxhash.xxh3_64_intdigest(body)) + body
    assert_equal(decode_user(longer, check=True), columns)
