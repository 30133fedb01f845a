"""Columns on the wire: little-endian bytes with a declared type. Knows nothing of protobuf."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from store.errors import InputError
from store.lists import FieldColumn, IdLists, Lists, check_offsets
from store.types import NO_ID, AnyArray


class DType(IntEnum):
    """Element types of a wire column; the numbers equal the `DType` enums of the .proto files."""

    UINT8 = 1
    UINT16 = 2
    UINT32 = 3
    UINT64 = 4
    INT32 = 5
    INT64 = 6
    FLOAT32 = 7


_NUMPY: dict[int, np.dtype[Any]] = {
    DType.UINT8: np.dtype("<u1"),
    DType.UINT16: np.dtype("<u2"),
    DType.UINT32: np.dtype("<u4"),
    DType.UINT64: np.dtype("<u8"),
    DType.INT32: np.dtype("<i4"),
    DType.INT64: np.dtype("<i8"),
    DType.FLOAT32: np.dtype("<f4"),
}
_CODES = {dtype: DType(code) for code, dtype in _NUMPY.items()}


def encode_column(array: AnyArray) -> tuple[DType, bytes]:
    """Gives the wire type and the little-endian bytes of an array (flattened in C order)."""
    code = _CODES.get(array.dtype)
    if code is not None:
        return code, array.tobytes()
    little = array.dtype.newbyteorder("<")
    return _CODES[little], array.astype(little).tobytes()


def decode_column(name: str, dtype: int, data: bytes, expected: DType, length: int | None = None) -> AnyArray:
    """Gives a read-only array over wire bytes, after checking them.

    Args:
        name: Field name for the error message.
        dtype: Declared element type, as received.
        data: Little-endian bytes.
        expected: The element type this field must have.
        length: Number of elements it must have; None = any.

    Raises:
        InputError: Another type than expected, a byte count that is no multiple of the element size, another
            length than expected, or a floating-point value that is not finite. The message names the field.
    """
    if dtype != expected:
        given = DType(dtype).name if dtype in _NUMPY else str(dtype)
        raise InputError(f"{name}: dtype must be {expected.name}, is {given}")
    kind = _NUMPY[expected]
    if len(data) % kind.itemsize:
        raise InputError(f"{name}: {len(data)} bytes are no whole number of {expected.name} values")
    array = np.frombuffer(data, dtype=kind)
    if length is not None and len(array) != length:
        raise InputError(f"{name}: expected {length} values, got {len(array)}")
    if kind.kind == "f" and not bool(np.isfinite(array).all()):
        raise InputError(f"{name}: every value must be finite")
    return array


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMessage:
    """A side-info field on the wire: what `NamedColumn` holds beside the name."""

    values: tuple[int, bytes]
    """Element type and bytes."""
    present: bytes
    offsets: tuple[int, bytes] | None
    """None = the field has one value each, and no lists."""


def encode_field(values: FieldColumn) -> FieldMessage:
    """Gives the message of a side-info field, whose missing values are `NO_ID`, NaN or an empty list.

    A missing value travels as 0 with a presence byte of 0, because a number on the wire is always finite. Presence is
    empty when nothing is missing, and for lists.
    """
    if isinstance(values, Lists):
        return FieldMessage(values=encode_column(values.values), present=b"", offsets=encode_column(values.offsets))
    missing = np.isnan(values) if values.dtype == np.float32 else values == np.uint64(NO_ID)
    present = (~missing).astype(np.uint8).tobytes() if bool(missing.any()) else b""
    encoded = encode_column(np.where(missing, values.dtype.type(0), values))
    return FieldMessage(values=encoded, present=present, offsets=None)


def decode_field(name: str, message: FieldMessage, length: int) -> FieldColumn:
    """Gives a side-info field as `encode_field` took it.

    Raises:
        InputError: As `decode_column`, a type other than UINT64 and FLOAT32, presence bytes that are not one 0 or 1
            for each value, or offsets that are none of `length` lists. The message names the field.
    """
    if message.offsets is not None:
        return _decode_lists(name, message, message.offsets, length)
    (dtype, data), present = message.values, message.present
    expected = DType.UINT64 if dtype == DType.UINT64 else DType.FLOAT32
    values = decode_column(name, dtype, data, expected, length)
    if not present:
        return values
    if len(present) != length or not set(present) <= {0, 1}:
        raise InputError(f"{name}.present: expected {length} bytes of 0 or 1")
    missing = NO_ID if expected is DType.UINT64 else np.nan
    return np.where(np.frombuffer(present, np.bool_), values, values.dtype.type(missing))


def _decode_lists(name: str, message: FieldMessage, offsets: tuple[int, bytes], length: int) -> IdLists:
    if message.present:
        raise InputError(f"{name}.present: lists have none; an empty list is a missing value")
    values = decode_column(name, *message.values, DType.UINT64)
    starts = decode_column(f"{name}.offsets", *offsets, DType.INT64, length + 1)
    check_offsets(f"{name}.offsets", starts, length, len(values))
    return Lists(values=values, offsets=starts)
