"""Columns on the wire: little-endian bytes with a declared type. Knows nothing of protobuf."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from store.errors import InputError
from store.types import AnyArray


class DType(IntEnum):
    """Element types of a wire column; the numbers equal the `DType` enums of the .proto files."""

    UINT8 = 1
    UINT16 = 2
    UINT32 = 3
    UINT64 = 4
    INT32 = 5
    INT64 = 6
    FLOAT32 = 7


_NUMPY = {
    DType.UINT8: np.dtype("<u1"),
    DType.UINT16: np.dtype("<u2"),
    DType.UINT32: np.dtype("<u4"),
    DType.UINT64: np.dtype("<u8"),
    DType.INT32: np.dtype("<i4"),
    DType.INT64: np.dtype("<i8"),
    DType.FLOAT32: np.dtype("<f4"),
}
_CODES = {dtype: code for code, dtype in _NUMPY.items()}


def encode_column(array: AnyArray) -> tuple[DType, bytes]:
    """Gives the wire type and the little-endian bytes of an array (flattened in C order)."""
    little = array.dtype.newbyteorder("<")
    return _CODES[little], np.ascontiguousarray(array, dtype=little).tobytes()


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
