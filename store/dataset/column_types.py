"""Which type each side-info column has, decided when all is read: what a CSV file holds only looks like a type."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from store.dataset.field_values import is_list
from store.dataset.oddities import NULL_WORDS
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from store.dataset.batch import Batch
    from store.dataset.oddities import Oddities
    from store.fields import FieldKinds

_NUMBER = r"^\s*[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
_FEW = 0.1
"""Part of the values that are text, up to which the others are taken to be meant."""

ColumnKind = Literal["id", "number", "list"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnType:
    """The type of a column."""

    kind: ColumnKind
    is_certain: bool
    """False = numbers in a CSV file: ids as well, where another file has text in the column."""
    where: str
    """Whose column it is, for messages."""


Types = dict[str, ColumnType]
"""By column; one in which nothing has a value is left out."""


def types_in(batch: Batch, own: set[str], odd: Oddities | None = None) -> Types:
    """Gives the types of the columns of a batch that are not the table's own.

    A column of strings is one of ids, one of integers, floating-point numbers or truth values one of numbers. In a CSV
    file, where every value in it is a number, so too.

    Args:
        batch: Some rows.
        own: Columns of the table itself.
        odd: Takes columns of a CSV file that a few values keep from being of numbers.

    Raises:
        InputError: A column is neither of strings nor of numbers nor of lists of ids.
    """
    out: Types = {}
    for name in sorted(batch.columns.keys() - own):
        column = batch.columns[name]
        is_typed = is_list(column.type) or not (batch.is_text or pa.types.is_null(column.type))
        if is_typed or column.null_count < len(column):
            kind, is_certain = _kind_of(batch, name, column)
            out[name] = ColumnType(kind=kind, is_certain=is_certain, where=batch.file)
            if odd is not None and batch.is_text and kind == "id":
                _note_strays(batch, name, column, odd)
    return out


def join_types(parts: Iterable[Types]) -> Types:
    """Gives the types of columns that stand in several places.

    Raises:
        InputError: A column has one type here and another one there.
    """
    out: Types = {}
    for part in parts:
        for name, found in part.items():
            out[name] = _join(name, out[name], found) if name in out else found
    return out


def stored_types(kinds: FieldKinds, where: str) -> Types:
    """Gives the types of the fields that a store has already."""
    return {name: ColumnType(kind=kind, is_certain=True, where=where) for name, kind in kinds}


def kinds_of(types: Mapping[str, ColumnType]) -> FieldKinds:
    """Gives the kinds of fields that have one value each, ascending by name.

    Raises:
        InputError: One has lists.
    """
    for name, found in sorted(types.items()):
        if found.kind == "list":
            raise InputError(
                f"{found.where}: {name}: a behavior has one value of a side-info field, and no list of them"
            )
    return tuple((name, found.kind) for name, found in sorted(types.items()) if found.kind != "list")


def _kind_of(batch: Batch, name: str, column: pa.Array) -> tuple[ColumnKind, bool]:
    kind = column.type
    if is_list(kind):
        return "list", True
    if batch.is_text:
        return ("number", False) if _is_numbers(column) else ("id", True)
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    ):
        return "number", True
    if pa.types.is_string(kind):
        return "id", True
    raise InputError(f"{batch.file}: {name} has type {kind}; a side-info field is a string, a number or a list of ids")


def _note_strays(batch: Batch, name: str, column: pa.Array, odd: Oddities) -> None:
    is_number = pc.match_substring_regex(column, _NUMBER)
    strays = column.filter(pc.invert(is_number))
    num_values = len(column) - column.null_count
    is_few = len(strays) <= _FEW * num_values
    if 0 < len(strays) < num_values and (is_few or all(map(_means_a_number, strays.to_pylist()))):
        what = f"{batch.file}: {name}: text in a column of numbers, which makes all of it categorical"
        odd.note(what, repr(strays[0].as_py()), len(strays))


def _means_a_number(text: str) -> bool:
    """Whether a text stands for a missing number, or is one with a decimal comma."""
    return text.strip().lower() in NULL_WORDS or re.fullmatch(r"-?[0-9]+,[0-9]+", text.strip()) is not None


def _is_numbers(column: pa.Array) -> bool:
    try:
        column.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _join(name: str, first: ColumnType, second: ColumnType) -> ColumnType:
    if first.kind == second.kind:
        return first if first.is_certain else second
    loose = [each for each in (first, second) if not each.is_certain]
    other = second if loose and loose[0] is first else first
    if loose and other.kind == "id":
        return other
    raise InputError(
        f"{second.where}: {name} is a side-info field of {second.kind}s, in {first.where} it is one of {first.kind}s; "
        "give the column one type"
    )
