"""Many records read at once say what each says alone, and refuse what each refuses alone."""

from contextlib import suppress
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import CorruptRecordError
from store.records import layout
from store.records.block_codec import encode_block
from store.records.codec import decode_extras, decode_user, encode_user
from store.records.record_block import decode_block, first_damaged
from store.records.rows import widen
from store.types import NO_ID
from tests.worlds.blocks import random_block, user_of

WIDTHS = [np.uint8, np.uint16, np.uint32, np.uint64]


@st.composite
def blocks(draw):
    kinds = draw(st.lists(st.sampled_from([*WIDTHS, np.float32]), max_size=3))

    def block():
        fields = [kind if kind is np.float32 else draw(st.sampled_from(WIDTHS)) for kind in kinds]
        return random_block(
            draw(st.lists(st.integers(0, 30), min_size=1, max_size=5)),
            draw(st.integers(0, 2**32 - 1)),
            item=draw(st.sampled_from([np.uint32, np.uint64])),
            scene=draw(st.sampled_from([np.uint8, np.uint16])),
            category=draw(st.sampled_from(WIDTHS)),
            keyed=draw(st.booleans()),
            fields=fields,
        )

    return block(), block()


def records_of(pair):
    """Gives records of two layouts, mixed."""
    first, second = ([encode_user(*user_of(block, at)) for at in range(len(block.users))] for block in pair)
    mixed = [record for couple in zip(first, second, strict=False) for record in couple]
    rest = first[len(second) :] + second[len(first) :]
    return [memoryview(record) for record in mixed + rest]


def one_by_one(records):
    users = [(decode_user(record, check=True), decode_extras(record)) for record in records]
    keyed = any(extras.key is not None for _, extras in users)
    streams = [
        [s.domain * 256 + s.action for s in columns.sections for _ in range(s.start, s.stop)] for columns, _ in users
    ]
    out = {
        "bounds": np.cumsum([0, *(columns.num_behaviors for columns, _ in users)]).tolist(),
        "stream": [stream for own in streams for stream in own],
        **{
            name: _all(getattr(columns, name) for columns, _ in users)
            for name in ("node", "timestamp_ms", "item", "scene")
        },
        **{name: _all(getattr(columns, name) for columns, _ in users) for name in ("rank", "order")},
        "category": _all(widen(extras.category) for _, extras in users),
        "key": None,
    }
    if keyed:
        none = [np.full(columns.num_behaviors, NO_ID, np.uint64) for columns, _ in users]
        out["key"] = _all(
            key if extras.key is None else extras.key for key, (_, extras) in zip(none, users, strict=True)
        )
    fields = zip(*(extras.fields for _, extras in users), strict=True)
    return out, [_all(field if field.dtype.kind == "f" else widen(field) for field in column) for column in fields]


def _all(arrays):
    return [value for array in arrays for value in array.tolist()]


@given(blocks(), st.sampled_from([4, 65536]))
@settings(max_examples=150)
def test_a_block_says_what_its_records_say(pair, max_short_rows):
    with mock.patch.multiple("store.records.codec", MAX_SHORT_ROWS=max_short_rows):
        records = records_of(pair)
    expected, fields = one_by_one(records)
    block = decode_block(records)
    for name, values in expected.items():
        found = getattr(block, name)
        assert (found is None) == (values is None)
        assert values is None or found.tolist() == values, name
    assert repr([field.tolist() for field in block.fields]) == repr(fields)  # two NaN look the same
    assert first_damaged(records) is None


@given(blocks(), st.data())
@settings(max_examples=150)
def test_damage_to_any_bit_of_any_record_is_found(pair, data):
    records = records_of(pair)
    at = data.draw(st.integers(0, len(records) - 1))
    broken = bytearray(records[at])
    bit = data.draw(st.integers(0, len(broken) * 8 - 1))
    broken[bit // 8] ^= 1 << bit % 8
    records[at] = memoryview(bytes(broken))
    with pytest.raises(CorruptRecordError):
        decode_block(records)
    found = first_damaged(records)
    assert found is not None
    assert found[0] == at


@given(blocks(), st.data())
@settings(max_examples=150)
def test_a_header_that_lies_with_a_right_checksum_is_refused_where_one_record_would_be(pair, data):
    records = records_of(pair)
    at = data.draw(st.integers(0, len(records) - 1))
    broken = bytearray(records[at])
    where = data.draw(st.integers(16, min(len(broken), 80) - 1))
    broken[where] ^= 1 << data.draw(st.integers(0, 7))
    broken[8:16] = layout.checksum(broken).to_bytes(8, "little")
    records[at] = memoryview(bytes(broken))
    refused = first_damaged(records)
    if refused is not None:
        with pytest.raises(CorruptRecordError):
            decode_block(records)
    else:
        with suppress(ValueError):  # other fields than the rest: a store's records all have the same
            assert decode_block(records).node.tolist() == one_by_one(records)[0]["node"]


def test_short_and_long_records_go_together():
    block = random_block([3, 70_000, 2], 7, item=np.uint32, scene=np.uint8, category=np.uint16, keyed=True, fields=[])
    records = [record for _, record in encode_block(block).records()]
    decoded = decode_block(records)
    assert decoded.bounds.tolist() == [0, 3, 70_003, 70_005]
    assert np.array_equal(decoded.order, np.concatenate([decode_user(record).order for record in records]))
