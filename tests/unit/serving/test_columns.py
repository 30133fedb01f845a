from __future__ import annotations

import numpy as np
import pytest

from protos.lookback.columns.v1 import columns_pb2 as pb
from serving.wire.columns import decode_column, decode_field, encode_column, fields_from_proto, put_field
from store.errors import FieldError, InputError
from store.lists import Lists
from store.types import NO_ID


def encode_field(name, values):
    message = pb.NamedColumn(name=name)
    put_field(message, values)
    return message


def column(dtype, data):
    return pb.Column(dtype=dtype, data=data)


def test_a_column_says_its_type_and_is_little_endian():
    expected = column(pb.D_TYPE_UINT16, b"\x01\x00\x02\x01")
    assert encode_column(np.array([1, 258], np.uint16)) == expected
    assert encode_column(np.array([1, 258], ">u2")) == expected


def test_missing_values_travel_as_zero_with_a_byte_that_says_so():
    ids = encode_field("f", np.array([7, NO_ID], np.uint64))
    assert ids == pb.NamedColumn(
        name="f", values=column(pb.D_TYPE_UINT64, (7).to_bytes(8, "little") + bytes(8)), present=b"\x01\x00"
    )
    numbers = encode_field("f", np.array([1.5, np.nan], np.float32))
    assert numbers.values == column(pb.D_TYPE_FLOAT32, np.array([1.5, 0.0], "<f4").tobytes())
    assert numbers.present == b"\x01\x00"
    assert encode_field("f", np.array([7], np.uint64)).present == b""


@pytest.mark.parametrize("values", [np.array([7, NO_ID], np.uint64), np.array([1.5, np.nan], np.float32)])
def test_a_field_comes_back_as_it_went(values):
    back = decode_field("f", encode_field("f", values), 2)
    assert back.dtype == values.dtype
    assert back.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("dtype", "data", "length", "message"),
    [
        (pb.D_TYPE_INT64, bytes(8), None, "f: dtype must be FLOAT32, is INT64"),
        (0, bytes(4), None, "f: dtype must be FLOAT32, is 0"),
        (99, bytes(4), None, "f: dtype must be FLOAT32, is 99"),
        (pb.D_TYPE_FLOAT32, bytes(5), None, "f: 5 bytes are no whole number of FLOAT32 values"),
        (pb.D_TYPE_FLOAT32, bytes(8), 3, "f: expected 3 values, got 2"),
        (pb.D_TYPE_FLOAT32, np.array([np.nan], "<f4").tobytes(), 1, "f: every value must be finite"),
        (pb.D_TYPE_FLOAT32, np.array([np.inf], "<f4").tobytes(), 1, "f: every value must be finite"),
    ],
)
def test_a_bad_column_is_refused_by_name(dtype, data, length, message):
    with pytest.raises(InputError) as caught:
        decode_column("f", column(dtype, data), np.float32, length)
    assert str(caught.value) == message


@pytest.mark.parametrize("present", [b"\x01", b"\x01\x01\x01", b"\x01\x02"])
def test_bad_presence_bytes_are_refused_by_name(present):
    with pytest.raises(InputError, match=r"^f\.present: expected 2 bytes of 0 or 1"):
        decode_field("f", pb.NamedColumn(values=column(pb.D_TYPE_UINT64, bytes(16)), present=present), 2)


def test_a_field_of_another_type_is_refused_by_name():
    with pytest.raises(InputError, match=r"^f: dtype must be FLOAT32, is INT32"):
        decode_field("f", pb.NamedColumn(values=column(pb.D_TYPE_INT32, bytes(4))), 1)


def int64(*values):
    return column(pb.D_TYPE_INT64, np.array(values, "<i8").tobytes())


def test_lists_come_back_as_they_went():
    lists = Lists(values=np.array([9, 7, 9], np.uint64), offsets=np.array([0, 2, 2, 3]))
    message = encode_field("f", lists)
    assert (message.present, message.offsets) == (b"", int64(0, 2, 2, 3))
    back = decode_field("f", message, 3)
    assert isinstance(back, Lists)
    assert (back.values.tolist(), back.offsets.tolist()) == ([9, 7, 9], [0, 2, 2, 3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": int64(0, 1)}, "f.offsets: expected 3 values, got 2"),
        ({"offsets": int64(0, 1, 3)}, "f.offsets: must run from 0 to 2, runs from 0 to 3"),
        ({"offsets": int64(1, 1, 2)}, "f.offsets: must run from 0 to 2, runs from 1 to 2"),
        ({"offsets": int64(0, 3, 2)}, "f.offsets: must not descend"),
        ({"offsets": int64(0, -1, 2)}, "f.offsets: must not descend"),
        ({"offsets": column(pb.D_TYPE_UINT64, bytes(24))}, "f.offsets: dtype must be INT64, is UINT64"),
        ({"offsets": column(pb.D_TYPE_INT64, bytes(7))}, "f.offsets: 7 bytes are no whole number of INT64 values"),
        ({"values": column(pb.D_TYPE_FLOAT32, bytes(8))}, "f: dtype must be UINT64, is FLOAT32"),
        ({"present": b"\1\1"}, "f.present: lists have none; an empty list is a missing value"),
    ],
)
def test_bad_lists_are_refused_by_name(changes, message):
    good = {"values": column(pb.D_TYPE_UINT64, bytes(16)), "offsets": int64(0, 1, 2)}
    with pytest.raises(InputError) as caught:
        decode_field("f", pb.NamedColumn(**good | changes), 2)
    assert str(caught.value) == message


NUMBER = encode_field("price", np.ones(2, np.float32))
LISTS = encode_field("tags", Lists(values=np.ones(1, np.uint64), offsets=np.array([0, 1, 1])))


@pytest.mark.parametrize(
    ("part", "columns", "message"),
    [
        ("user", [NUMBER, NUMBER], "user_fields['price']: is given twice"),
        ("event", [LISTS], "fields['tags'].offsets: there is one value of a field for each event, and no list"),
        ("candidate", [encode_field("price", np.ones(3, np.float32))], "candidate_fields['price']: expected 2 values"),
    ],
)
def test_the_refusal_of_a_field_says_which_one(part, columns, message):
    with pytest.raises(FieldError) as caught:
        fields_from_proto(part, columns, 2, lists=False)
    assert str(caught.value).startswith(message)
    assert (caught.value.part, caught.value.field) == (part, columns[0].name)
