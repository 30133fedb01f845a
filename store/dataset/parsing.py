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
from store.types import MAX_TIMESTAMP_MS, NEGATIVE_INTEGER, NO_ID, parse_id

if TYPE_CHECKING:
    from store.dataset.batch import Batch
    from store.dataset.oddities import Oddities
    from store.types import I64, U64, Bool


_SHORT_INTEGER = r"^(0|[1-9][0-9]{0,18})$"
_SIGNED_INTEGER = r"^-?[0-9]{1,18}$"


class IdPool:
    """Makes ids of one kind of thing, and keeps the strings behind hashed ones as names."""

    def __init__(self, kind: str, odd: Oddities | None = None) -> None:
        """Makes an empty pool.

        Args:
            kind: What has the ids, for messages.
            odd: Takes what is odd about a string that is an id, and none is a negative number; None = anything goes.
        """
        self._kind = kind
        self._odd = odd
        self._known: dict[str, int] = {}
        self.names: dict[int, str] = {}
        """The string behind each hashed id."""
        self.shown: dict[int, str] = {}
        """Names to show for ids, from the table that describes them."""

    def __len__(self) -> int:
        return len(self._known)

    def drain(self) -> dict[int, str]:
        """Gives the names and forgets them, with every string seen; two of one hash go unnoticed across calls."""
        names, self.names, self._known = self.names, {}, {}
        return names

    def text_of(self, key: int) -> str:
        """Gives an id as it stood in the input."""
        return self.names.get(key, str(key))

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
        if pa.types.is_decimal(column.type) and column.type.scale == 0:
            return self.parse(label, column.cast(pa.string()))
        if not is_text(column.type):
            made = pa.types.is_floating(column.type)
            why = " (a table library makes floating-point numbers of integers with gaps)" if made else ""
            raise InputError(f"{label} has type {column.type}; an id is an integer or a string{why}")
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
        if self._odd is not None:
            if NEGATIVE_INTEGER.fullmatch(text):
                return NO_ID
            self._odd.note_id(label, text)
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
        words = encoded.dictionary.to_pylist()
        at = encoded.indices.fill_null(len(words)).to_numpy()
        # A dictionary may hold values that no row has.
        codes = np.zeros(len(words) + 1, np.int64)
        for word in np.unique(at).tolist():
            codes[word] = self._code((words[word] if word < len(words) else None) or "")
        out: I64 = codes[at]
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
