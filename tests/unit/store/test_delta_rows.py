import numpy as np
import pytest

from store.delta.layout import event_keys
from store.delta.rows import NO_ROWS, DeltaRows, decode_rows, encode_rows, peek_rows
from store.errors import CorruptRecordError
from store.keys import mix_one
from store.types import NO_ID

USERS = np.array([7, 2**64 - 1], np.uint64)
KINDS = ("id", "number", "id")
GOLDEN = [
    # item, category, time, event id, sequence, codes with the number of fields and the checksum
    "0500000000000000 0900000000000000 e803000000000000 ffffffffffffffff 0100000000000000 0102 0300 00",
    "feffffffffffffff ffffffffffffffff ffffffff00000000 0000000000000000 0000010000000000 ff00 ffff 02"
    "0000000000000000 2a00000000000000 0100000000000000 0000c03f00000000",
]


@pytest.fixture
def rows():
    return DeltaRows(
        item=np.array([5, 2**64 - 2], np.uint64),
        category=np.array([9, NO_ID], np.uint64),
        timestamp_ms=np.array([1000, 2**32 - 1]),
        key=np.array([NO_ID, 0], np.uint64),
        sequence=np.array([1, 65536], np.uint64),
        domain=np.array([1, 255], np.uint8),
        action=np.array([2, 0], np.uint8),
        scene=np.array([3, 65535], np.uint16),
        fields={0: np.array([NO_ID, 42], np.uint64), 1: np.array([np.nan, 1.5], np.float32)},
    )


def assert_equal(left, right):
    for name in ("item", "category", "timestamp_ms", "key", "sequence", "domain", "action", "scene"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), strict=True)
    assert left.fields.keys() == right.fields.keys()
    for code, column in left.fields.items():
        np.testing.assert_array_equal(column, right.fields[code], strict=True)


def checksum(user_key, row):
    """FORMAT.md, word by word."""
    words = [int.from_bytes(row[at : at + 8], "little") for at in range(0, len(row), 8)]
    words[5] %= 1 << 40
    weight = 0x9E3779B97F4A7C15
    total = sum(word * weight ** (power + 1) for power, word in enumerate([user_key, *words]))
    return total % 2**64 >> 40


def test_golden_bytes(rows):
    for user, row, golden in zip(USERS.tolist(), encode_rows(USERS, rows), GOLDEN, strict=True):
        data = bytes.fromhex(golden)
        assert row[:45] + row[48:] == data
        assert int.from_bytes(row[45:48], "little") == checksum(user, row)


def test_golden_bytes_of_format_md():
    rows = DeltaRows(
        item=np.array([5], np.uint64),
        category=np.array([9], np.uint64),
        timestamp_ms=np.array([1000]),
        key=np.array([NO_ID], np.uint64),
        sequence=np.array([65538], np.uint64),
        domain=np.array([1], np.uint8),
        action=np.array([2], np.uint8),
        scene=np.array([3], np.uint16),
        fields={1: np.array([1.5], np.float32)},
    )
    user = np.array([mix_one(7)], np.uint64)
    [row] = encode_rows(user, rows)
    assert event_keys(user, rows.sequence) == [bytes.fromhex("000000000001 12ae30237b17df14 0002")]
    assert row == bytes.fromhex(
        "0500000000000000 0900000000000000 e803000000000000 ffffffffffffffff"
        "0200010000000000 0102030001810406 0100000000000000 0000c03f00000000"
    )


def test_rows_come_back(rows):
    assert_equal(decode_rows(encode_rows(USERS, rows), USERS, KINDS), rows)
    plain = rows.take(np.array([0]))
    [data] = encode_rows(USERS[:1], plain)
    assert len(data) == 48
    assert decode_rows([data], USERS[:1], ()).fields == {}
    assert decode_rows([], USERS[:0], ()).item.tolist() == []
    assert encode_rows(USERS[:0], NO_ROWS) == []


def test_rows_of_one_user_need_the_user_once(rows):
    both = np.array([7, 7], np.uint64)
    assert_equal(decode_rows(encode_rows(both, rows), both[:1], KINDS), rows)


def test_every_flipped_bit_is_found(rows):
    good = encode_rows(USERS, rows)
    for at, row in enumerate(good):
        for bit in range(len(row) * 8):
            damaged = bytearray(row)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(CorruptRecordError):
                decode_rows([bytes(damaged)], USERS[at : at + 1], KINDS)
            with pytest.raises(CorruptRecordError):
                decode_rows([*good[:at], bytes(damaged), *good[at + 1 :]], USERS, KINDS)


def test_every_truncation_is_found(rows):
    good = encode_rows(USERS, rows)
    for at, row in enumerate(good):
        for length in range(len(row)):
            with pytest.raises(CorruptRecordError):
                decode_rows([row[:length]], USERS[at : at + 1], KINDS)
            with pytest.raises(CorruptRecordError):
                decode_rows([*good[:at], row[:length], *good[at + 1 :]], USERS, KINDS)


def test_a_row_of_another_user_is_found(rows):
    with pytest.raises(CorruptRecordError, match="damaged"):
        decode_rows(encode_rows(USERS, rows), USERS[::-1], KINDS)


def test_a_field_without_a_word_is_found(rows):
    with pytest.raises(CorruptRecordError):
        decode_rows(encode_rows(USERS, rows), USERS, KINDS[:1])


def test_peeking_gives_the_columns_without_a_check(rows):
    data = [bytes([*row[:47], row[47] ^ 1, *row[48:]]) for row in encode_rows(USERS, rows)]
    peeked = peek_rows(data)
    assert peeked.sequence.tolist() == [1, 65536]
    assert peeked.item.tolist() == [5, 2**64 - 2]
    assert peek_rows([]).item.tolist() == []
