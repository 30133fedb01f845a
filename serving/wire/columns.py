"""Messages of `lookback.columns.v1`: columns, side-info fields, candidates and the refusal of a field, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from protos.lookback.columns.v1 import columns_pb2 as pb
from store.errors import FieldError, InputError
from store.fields import NUMBER, VALUE_TYPES, FieldColumn, IdLists, value_type_of
from store.lists import Lists, check_offsets
from store.retrieval import Candidates
from store.types import NO_ID, AnyArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import grpc
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

REFUSED_FIELD = "lookback-refused-field-bin"
"""Key of the trailing metadata in which a `RefusedField` travels."""

_CODES: dict[np.dtype[Any], pb.DType.ValueType] = {
    np.dtype("<u1"): pb.D_TYPE_UINT8,
    np.dtype("<u2"): pb.D_TYPE_UINT16,
    np.dtype("<u4"): pb.D_TYPE_UINT32,
    np.dtype("<u8"): pb.D_TYPE_UINT64,
    np.dtype("<i4"): pb.D_TYPE_INT32,
    np.dtype("<i8"): pb.D_TYPE_INT64,
    np.dtype("<f4"): pb.D_TYPE_FLOAT32,
}
_NAMES = {code: dtype.name.upper() for dtype, code in _CODES.items()}
_WIRE = {dtype.type: (dtype, code, dtype.itemsize, dtype.kind == "f") for dtype, code in _CODES.items()}
"""Of a type of values: how they travel, and what is to be known to check them."""
_HELD = {_CODES[each.dtype]: each for each in VALUE_TYPES.values()}
"""Types of side-info with one value each, by how their values travel."""


_NO_IDS, _NO_OFFSETS = np.empty(0, np.uint64), np.empty(0, np.int64)


def put_column(column: pb.Column, array: AnyArray) -> None:
    """Writes the wire type and the little-endian bytes of an array (flattened in C order) into a column of a message.

    Into the message where it is to stay: protobuf copies, by way of its bytes, every message that another one is made
    with.
    """
    code = _CODES.get(array.dtype)
    if code is None:
        little = array.dtype.newbyteorder("<")
        code, array = _CODES[little], array.astype(little)
    column.dtype = code
    column.data = array.tobytes()


def encode_column(array: AnyArray) -> pb.Column:
    """Gives an array as a message of its own: for those that a copy more does not matter to."""
    column = pb.Column()
    put_column(column, array)
    return column


def put_columns(message: object, holder: object, names: Iterable[str]) -> None:
    """Writes an object's columns into the fields of its message that have the same names."""
    for name in names:
        put_column(getattr(message, name), getattr(holder, name))


def decode_column(name: str, column: pb.Column, expected: type[np.generic], length: int | None = None) -> AnyArray:
    """Gives a read-only array over the bytes of a column, after checking them.

    Args:
        name: Field name for the error message.
        column: As received.
        expected: The element type this field must have.
        length: Number of elements it must have; None = any.

    Raises:
        InputError: Another type than expected, a byte count that is no multiple of the element size, another
            length than expected, or a floating-point value that is not finite. The message names the field.
    """
    dtype, code, item_bytes, is_float = _WIRE[expected]
    data = column.data
    if column.dtype != code:
        raise InputError(f"{name}: dtype must be {_NAMES[code]}, is {_NAMES.get(column.dtype, str(column.dtype))}")
    if len(data) % item_bytes:
        raise InputError(f"{name}: {len(data)} bytes are no whole number of {_NAMES[code]} values")
    array = np.frombuffer(data, dtype)
    if length is not None and len(array) != length:
        raise InputError(f"{name}: expected {length} values, got {len(array)}")
    if is_float and np.count_nonzero(np.isfinite(array)) != len(array):
        raise InputError(f"{name}: every value must be finite")
    return array


def decode_columns(
    prefix: str, message: object, types: Mapping[str, type[np.generic]], length: int | None = None
) -> dict[str, Any]:
    """Gives several columns of a message, by name; without `length` they must be as long as the first.

    Raises:
        InputError: As `decode_column`; names the field, with a prefix.
    """
    columns: dict[str, Any] = {}
    for name, expected in types.items():
        columns[name] = decode_column(prefix + name, getattr(message, name), expected, length)
        length = len(columns[name])
    return columns


def same_fields(holder: object, names: Iterable[str]) -> dict[str, Any]:
    """Gives what stands as it is both in a message and in the object that it is of: numbers and text, by name."""
    return {name: getattr(holder, name) for name in names}


def put_field(message: pb.NamedColumn, values: FieldColumn) -> None:
    """Writes the values of a side-info field, whose missing values are `NO_ID`, NaN or an empty list, into its message.

    A missing value travels as 0 with a presence byte of 0, because a number on the wire is always finite. Presence is
    empty when nothing is missing, and for lists.
    """
    if isinstance(values, Lists):
        put_column(message.values, values.values)
        put_column(message.offsets, values.offsets)
        return
    given = value_type_of(values).given(values)
    if np.count_nonzero(given) != len(given):
        message.present = given.tobytes()
        values = np.where(given, values, values.dtype.type(0))
    put_column(message.values, values)


def decode_field(name: str, column: pb.NamedColumn, length: int) -> FieldColumn:
    """Gives a side-info field as `put_field` took it.

    Args:
        name: Field name for the error message.
        column: As received.
        length: Number of values or lists it must have.

    Raises:
        InputError: As `decode_column`, a type other than UINT64 and FLOAT32, presence bytes that are not one 0 or 1
            for each value, or offsets that are none of `length` lists. The message names the field.
    """
    if column.HasField("offsets"):
        return _decode_lists(name, column, length)
    # A column of neither type is refused as one that is no number.
    held = _HELD.get(column.values.dtype, NUMBER)
    values = decode_column(name, column.values, held.dtype.type, length)
    present = column.present
    if not present:
        return values
    if len(present) != length or not set(present) <= {0, 1}:
        raise InputError(f"{name}.present: expected {length} bytes of 0 or 1")
    return np.where(np.frombuffer(present, np.bool_), values, held.missing(1))


def _decode_lists(name: str, column: pb.NamedColumn, length: int) -> IdLists:
    if column.present:
        raise InputError(f"{name}.present: lists have none; an empty list is a missing value")
    values = decode_column(name, column.values, np.uint64)
    offsets = decode_column(f"{name}.offsets", column.offsets, np.int64, length + 1)
    check_offsets(f"{name}.offsets", offsets, length, len(values))
    return Lists(values=values, offsets=offsets)


def put_fields(columns: RepeatedCompositeFieldContainer[pb.NamedColumn], fields: Mapping[str, FieldColumn]) -> None:
    """Writes side-info fields by name into a list of a message."""
    for name, values in fields.items():
        put_field(columns.add(name=name), values)


def fields_from_proto(
    part: str, columns: Iterable[pb.NamedColumn], length: int, *, lists: bool = True
) -> dict[str, Any]:
    """Gives side-info fields by name.

    Args:
        part: What the fields are of, as in `RefusedField`.
        columns: As received.
        length: Number of values or lists each must have.
        lists: Whether a field may have a list for each value.

    Raises:
        FieldError: As `decode_field`, a field that is given twice, or lists where there may be none.
    """
    fields: dict[str, FieldColumn] = {}
    for column in columns:
        name = column.name
        try:
            if name in fields:
                raise InputError(": is given twice")
            if not lists and column.HasField("offsets"):
                raise InputError(f".offsets: there is one value of a field for each {part}, and no list")
            fields[name] = decode_field("", column, length)
        except InputError as error:
            where = "fields" if part == "event" else f"{part}_fields"
            raise FieldError(f"{where}[{name[:64]!r}]{error}", part, name) from error
    return fields


def put_candidates(message: pb.Candidates, candidates: Candidates) -> None:
    """Writes candidates into their message; columns that say nothing are left out."""
    put_columns(message, candidates, ("item", "category"))
    if len(candidates.covers):
        put_columns(message, candidates, ("covers", "covers_offsets"))
    if len(candidates.more_offsets):
        put_columns(message, candidates, ("more_categories", "more_offsets"))


def candidates_from_proto(message: pb.Candidates) -> Candidates:
    """Gives the candidates a message holds, with the defaults of the columns it leaves out.

    Raises:
        InputError: A column of another type or length than the contract's, or offsets that descend; names the field.
    """
    item = decode_column("candidates.item", message.item, np.uint64)
    length = len(item)
    category = np.full(length, NO_ID, np.uint64)
    if message.HasField("category"):
        category = decode_column("candidates.category", message.category, np.uint64, length)
    covers, offsets = _NO_IDS, np.zeros(length + 1, np.int64)
    if message.HasField("covers"):
        covers = decode_column("candidates.covers", message.covers, np.uint64)
    if message.HasField("covers") or message.HasField("covers_offsets"):
        offsets = decode_column("candidates.covers_offsets", message.covers_offsets, np.int64, length + 1)
    more, more_offsets = _NO_IDS, _NO_OFFSETS
    if message.HasField("more_categories") or message.HasField("more_offsets"):
        more = decode_column("candidates.more_categories", message.more_categories, np.uint64)
        more_offsets = decode_column("candidates.more_offsets", message.more_offsets, np.int64, length + 1)
    return Candidates(
        item=item,
        category=category,
        covers=covers,
        covers_offsets=offsets,
        more_categories=more,
        more_offsets=more_offsets,
    )


def refusal_to_metadata(error: FieldError) -> tuple[tuple[str, bytes], ...]:
    """Gives the trailing metadata of a status, which says which field was refused."""
    message = pb.RefusedField(part=error.part, field=error.field[:64])
    return ((REFUSED_FIELD, message.SerializeToString()),)


def refusal_from_call(call: grpc.Call) -> InputError:
    """Gives the error behind a status INVALID_ARGUMENT: a `FieldError` where it says which field is refused."""
    details = call.details() or ""
    for key, value in call.trailing_metadata() or ():
        if key == REFUSED_FIELD:
            assert isinstance(value, bytes), "gRPC gives bytes for every key that ends in -bin"
            message = pb.RefusedField.FromString(value)
            return FieldError(details, message.part, message.field)
    return InputError(details)
