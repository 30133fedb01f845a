"""Arrow columns to the store's own types, whole columns at a time, with a mask of what cannot be one."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.errors import InputError
from store.types import MAX_TIMESTAMP_MS, NO_ID, parse_id

if TYPE_CHECKING:
    from store.dataset.bad_rows import RowCheck
    from store.dataset.batch import Batch
    from store.types import F32, I64, U64, Bool


_SHORT_INTEGER = r"^(0|[1-9][0-9]{0,18})$"
_SIGNED_INTEGER = r"^-?[0-9]{1,18}$"


class IdPool:
    """Makes ids of one kind of thing, and keeps the strings behind hashed ones as names."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._known: dict[str, int] = {}
        self.names: dict[int, str] = {}
        """The string behind each hashed id."""

    def __len__(self) -> int:
        return len(self._known)

    def drain(self) -> dict[int, str]:
        """Gives the names and forgets them, with every string seen; two of one hash go unnoticed across calls."""
        names, self.names, self._known = self.names, {}, {}
        return names

    def column(self, batch: Batch, name: str, *, required: bool) -> U64:
        """Gives a column's ids; `NO_ID` where there is none, which is refused if `required`.

        Raises:
            InputError: The column is neither of integers nor of strings, or two strings share one hash.
        """
        column = batch.columns[name]
        ids, bad = self.parse(f"{batch.file}: {name}", column)
        if bad.any():
            batch.check.refuse(bad, partial(no_id, name, column))
        if required:
            batch.check.refuse(is_null(column), lambda row: f"{name}: missing")
        return ids

    def parse(self, label: str, column: pa.Array) -> tuple[U64, Bool]:
        """Gives ids, `NO_ID` where null or bad, and which values are bad."""
        if pa.types.is_integer(column.type):
            return _integer_ids(column)
        if pa.types.is_null(column.type):
            return np.full(len(column), NO_ID, np.uint64), np.zeros(len(column), np.bool_)
        if not is_text(column.type):
            raise InputError(
                f"{label} has type {column.type}; an id is an integer or a string (a table library may have made "
                "floating-point numbers of integers with gaps)"
            )
        encoded = dictionary(column)
        ids = np.append(self._distinct(label, encoded.dictionary), np.uint64(NO_ID))
        at = encoded.indices.fill_null(-1).to_numpy()
        out = ids[at]
        return out, (out == NO_ID) & (at >= 0)

    def _distinct(self, label: str, strings: pa.Array) -> U64:
        """Gives the id of each distinct string, `NO_ID` for one that cannot be an id."""
        short = pc.match_substring_regex(strings, _SHORT_INTEGER)
        is_short = short.to_numpy(zero_copy_only=False)
        ids = np.full(len(strings), NO_ID, np.uint64)
        ids[is_short] = strings.filter(short).cast(pa.uint64()).to_numpy()
        others = np.flatnonzero(~is_short)
        for at, text in zip(others.tolist(), strings.filter(pc.invert(short)).to_pylist(), strict=True):
            ids[at] = self._known.get(text, NO_ID) if text in self._known else self._hash(label, text)
        return ids

    def _hash(self, label: str, text: str) -> int:
        try:
            key = parse_id(text)
        except InputError:
            return NO_ID
        self._known[text] = key
        if str(key) != text and self.names.setdefault(key, text) != text:
            raise InputError(
                f"{label}: the {self._kind} ids {text!r} and {self.names[key]!r} have the same 64-bit hash; rename one"
            )
        return key


class WordPool:
    """Gives small codes to domain, action or scene names, in the order they are first seen."""

    def __init__(self, kind: str, limit: int) -> None:
        self._kind = kind
        self._limit = limit
        self._codes: dict[str, int] = {}

    def column(self, batch: Batch, name: str) -> I64:
        """Gives a column's codes; an absent or null value counts as the empty string.

        Raises:
            InputError: The column is not of strings, or there are too many distinct values.
        """
        if name not in batch.columns:
            return np.full(len(batch), self._code(""))
        encoded = dictionary(text_column(f"{batch.file}: {name}", batch.columns[name]))
        words = [word or "" for word in encoded.dictionary.to_pylist()]
        if encoded.null_count:
            words.append("")
        codes = np.array([self._code(word) for word in words], np.int64)
        at = encoded.indices.fill_null(len(words) - 1) if encoded.null_count else encoded.indices
        out: I64 = codes[at.to_numpy()]
        return out

    def required(self, batch: Batch, name: str) -> I64:
        """Gives a column's codes, refusing rows without a value. Errors: `column`."""
        codes = self.column(batch, name)
        batch.check.refuse(codes == self._codes.get("", -1), lambda row: f"{name}: missing")
        return codes

    def words(self) -> list[str]:
        """Gives the words by code."""
        return list(self._codes)

    def vocabulary(self, used: I64) -> tuple[tuple[str, ...], I64]:
        """Gives the words of the codes in use, ascending, and for each code its position there (-1 = not in use)."""
        words = self.words()
        kept = sorted((words[code], code) for code in used.tolist())
        position = np.full(len(words), -1, np.int64)
        position[[code for _, code in kept]] = np.arange(len(kept))
        return tuple(word for word, _ in kept), position

    def _code(self, word: str) -> int:
        code = self._codes.setdefault(word, len(self._codes))
        if code >= self._limit:
            raise InputError(f"more than {self._limit} distinct {self._kind}s: is {self._kind} the right column?")
        return code


def times(batch: Batch, name: str) -> I64:
    """Gives a column of times, milliseconds UTC, refusing what is none.

    Raises:
        InputError: The column has another type.
    """
    column = batch.columns[name]
    good = np.ones(len(column), np.bool_)
    values = column
    if batch.is_text:
        matches = pc.fill_null(pc.match_substring_regex(column, _SIGNED_INTEGER), True)
        good = matches.to_numpy(zero_copy_only=False)
        values = pc.if_else(matches, column, None).cast(pa.int64())
    elif pa.types.is_null(column.type):
        values = column.cast(pa.int64())
    elif not pa.types.is_integer(column.type):
        raise InputError(f"{batch.file}: {name} has type {column.type}; it must be int64, milliseconds UTC")
    batch.check.refuse(is_null(column), lambda row: f"{name}: missing")
    batch.check.refuse(~good, lambda row: f"{name}: {column[row].as_py()!r} is no integer")
    out: I64 = values.fill_null(0).cast(pa.int64(), safe=False).to_numpy()
    outside = (out < 0) | (out > MAX_TIMESTAMP_MS)
    batch.check.refuse(
        outside, lambda row: f"{name}: {column[row].as_py()} is outside 0 .. {MAX_TIMESTAMP_MS} (milliseconds UTC)"
    )
    return out


def text_column(label: str, column: pa.Array) -> pa.Array:
    """Gives a column that must be of strings.

    Raises:
        InputError: It is not.
    """
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    if not is_text(column.type):
        raise InputError(f"{label} has type {column.type}; it must be a string")
    return column


def is_text(kind: pa.DataType) -> bool:
    """Gives whether a type is that of strings, plain or as a dictionary."""
    return bool(pa.types.is_string(kind) or (pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)))


def dictionary(column: pa.Array) -> pa.DictionaryArray:
    """Gives a column as a dictionary of its distinct values."""
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def numbers(check: RowCheck, name: str, column: pa.Array) -> F32:
    """Gives a column of numbers as float32, NaN where missing, refusing what is not finite."""
    wide = column.cast(pa.float64(), safe=False)
    values = wide.fill_null(np.nan).to_numpy()
    with np.errstate(over="ignore"):
        out: F32 = values.astype(np.float32)
    check.refuse(np.isinf(out), lambda row: f"{name}: {column[row].as_py()} is no finite float32")
    return out


def id_field(batch: Batch, name: str, values: IdPool) -> U64:
    """Gives a categorical side-info field: the ids of its strings, `NO_ID` where empty or null.

    Raises:
        InputError: Two strings share one hash.
    """
    column = batch.columns[name]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    column = column.cast(pa.string())  # a column in which all is null has no type
    column = pc.if_else(pc.equal(column, ""), None, column)
    ids, bad = values.parse(f"{batch.file}: {name}", column)
    batch.check.refuse(bad, partial(no_id, name, column))
    return ids


def list_values(batch: Batch, name: str, column: pa.Array, pool: IdPool) -> tuple[U64, I64]:
    """Gives the ids of all lists of a column, and the row of each; refuses rows with a null or what is no id.

    Raises:
        InputError: The values are neither integers nor strings, or two strings share one hash.
    """
    values = pc.list_flatten(column)
    ids, _ = pool.parse(
        f"{batch.file}: {name}", values.cast(pa.string()) if pa.types.is_large_string(values.type) else values
    )
    row_of = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    bad = np.zeros(len(batch), np.bool_)
    bad[row_of[ids == NO_ID]] = True
    batch.check.refuse(bad, lambda row: f"{name}: {column[row].as_py()!r} holds what is no id")
    return ids, row_of


def is_list(kind: pa.DataType) -> bool:
    """Gives whether a type is that of lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def number_field(batch: Batch, name: str) -> F32:
    """Gives a numeric side-info field, NaN where missing; refuses a text that is no number, and infinity."""
    column = batch.columns[name]
    if not batch.is_text:
        return numbers(batch.check, name, column)
    try:
        values = column.cast(pa.float64())
    except pa.ArrowInvalid:
        good = np.array([value is None or _is_number(value) for value in column.to_pylist()], np.bool_)
        batch.check.refuse(~good, lambda row: f"{name}: {column[row].as_py()!r} is no number")
        values = pc.if_else(pa.array(good), column, None).cast(pa.float64())
    return numbers(batch.check, name, values)


def _is_number(text: str) -> bool:
    try:
        pa.scalar(text).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def no_id(name: str, column: pa.Array, row: int) -> str:
    """Gives the reason for refusing a row whose value in a column is no id."""
    return f"{name}: {column[row].as_py()!r} is no id"


def is_null(column: pa.Array) -> Bool:
    """Gives which values are null."""
    mask: Bool = column.is_null().to_numpy(zero_copy_only=False)
    return mask


def _integer_ids(column: pa.Array) -> tuple[U64, Bool]:
    null = is_null(column)
    values = column.fill_null(0).to_numpy()
    bad = (values < 0) if pa.types.is_signed_integer(column.type) else (values == NO_ID)
    bad &= ~null
    out = values.astype(np.uint64)
    out[null | bad] = NO_ID
    return out, bad
