"""Words of the store as data: ids, vocabularies and one user's behaviors as columns. Imports nothing of ours."""

from __future__ import annotations

import operator
import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt
import xxhash

from store.errors import InputError

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Unsigned = npt.NDArray[np.unsignedinteger[Any]]
"""Unsigned integers whose width depends on the data."""
Strings = npt.NDArray[np.object_]
AnyArray = npt.NDArray[Any]

NO_ID = 2**64 - 1
"""The id that means "none" in every id column; refused as an id of anything."""
NameKind = Literal["user", "item", "category", "value"]
"""What has a name; "value" = a value of a side-info field of behaviors that was a string."""

DAY_MS = 86_400_000
MAX_TIMESTAMP_MS = 253_402_300_799_999
"""End of the year 9999: a larger number is in micro- or nanoseconds."""

_CANONICAL_INTEGER = re.compile(r"0|[1-9][0-9]{0,19}")
NEGATIVE_INTEGER = re.compile(r"-[1-9][0-9]*")
"""No id of a user, an item or a category in any format: where ids are integers it means none."""


def encoded(text: str, field: str) -> bytes:
    """Gives a text as UTF-8.

    Raises:
        InputError: It is no text: an argument or a file name of bytes that are not UTF-8, or half of a surrogate pair.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InputError(f"{field}: {text!a} is no text in UTF-8") from exc


def parse_id(value: SupportsIndex | str, field: str = "id") -> int:
    """Gives the unsigned 64-bit id of a value as it stands in a file, a request or a command line.

    An integer, or a string that is the canonical decimal form of one ("105", not "0105"), is itself: so that a
    CSV and a Parquet file of the same rows agree. Any other string is hashed with xxh3-64 of its UTF-8 bytes.

    Args:
        value: The id as given; an integer may be one of numpy's.
        field: Name used in the error message.

    Raises:
        InputError: The value is empty, no text, negative, beyond 64 bits, the reserved `NO_ID`, or neither an integer
            nor a string.
    """
    if isinstance(value, str):
        if not value:
            raise InputError(f"{field}: an id must not be empty")
        if _CANONICAL_INTEGER.fullmatch(value) is None or int(value) > NO_ID:
            hashed = xxhash.xxh3_64_intdigest(encoded(value, field))
            return hashed if hashed != NO_ID else 0
        return check_id(int(value), field)
    return check_id(value, field)


def parse_time(text: str, field: str) -> int:
    """Gives a time, milliseconds UTC, that a person wrote: as such a number, or as a date, with a time of day or not.

    Args:
        text: `1509321600000`, `2017-10-30`, `2017-10-30 08:15`, `2017-10-30T08:15:00+02:00`; without a zone UTC.
        field: Name used in the error message.

    Raises:
        InputError: It is none of these.
    """
    if re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InputError(
            f"{field}: {text!r} is no time; give milliseconds UTC, or a date such as 2017-10-30 or 2017-10-30T08:15"
        ) from exc
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def check_id(value: SupportsIndex, field: str = "id") -> int:
    """Gives an integer id as Python's own; numpy's scalars pass, truth values and floating-point numbers do not.

    Raises:
        InputError: It is none, or outside 0 .. 2**64 - 2.
    """
    number = check_integer(value, field)
    if not 0 <= number < NO_ID:
        raise InputError(f"{field}: {number} is outside 0 .. 2**64 - 2")
    return number


def check_integer(value: SupportsIndex, field: str) -> int:
    """Gives an integer as Python's own, whoever made it: arithmetic and bit operations differ for numpy's.

    Raises:
        InputError: It is none; also a truth value.
    """
    if type(value) is int:
        return value
    try:
        if not isinstance(value, bool | np.bool_):
            return operator.index(value)
    except TypeError:
        pass
    raise InputError(f"{field}: {value!r} is no integer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Names behind the small codes of one store generation; the code is the position."""

    domains: tuple[str, ...]
    actions: tuple[str, ...]
    scenes: tuple[str, ...]


class Section(NamedTuple):
    """One stream of a user's behaviors: the half-open row range of one (domain, action) pair.

    A named tuple, for every read of a user makes several, and a frozen dataclass takes three times as long to make.
    """

    domain: int
    action: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserColumns:
    """One user's behaviors as columns, rows ordered by (domain, action, node, time, event order).

    Within a section the node numbers ascend, so that a subtree is one slice found by two binary searches, and the rows
    of one node stand in time order::

        section (content, view)         section (ad, click)
        node  4  4  4  7  9  9          node  4  8
        time  1  5  8  2  3  9          time  6  7
        rank  0  3  6  1  2  7          rank  4  5      position of the row in the user's time order
        order 0 3 4 1 6 7 2 5                           row at each position of the time order (inverse of rank)

    The arrays may be views into a memory map and are then valid only while the snapshot that gave them is open.
    They are read-only. `num_behaviors` is their common length N. Columns whose type is `Unsigned` are as narrow as the
    record that they come from: make them wider before any arithmetic.
    """

    sections: tuple[Section, ...]
    node: U32
    """Pre-order number of the behavior's item, else of its category, else `Taxonomy.unmapped`. (N,)"""
    timestamp_ms: I64
    """Milliseconds UTC. (N,)"""
    item: Unsigned
    """Item id, uint32 or uint64. (N,)"""
    scene: Unsigned
    """Code in `Vocabulary.scenes`, uint8 or uint16. (N,)"""
    rank: Unsigned
    """Position in time order (ties by event order), uint16 or uint32. (N,)"""
    order: Unsigned
    """Row at each position of the time order, of the type of `rank`. (N,)"""

    @property
    def num_behaviors(self) -> int:
        """Number of rows N."""
        return len(self.node)

    def num_before(self, time_ms: int) -> int:
        """Gives the number of behaviors strictly before a time: those with a `rank` below it. Cost: O(log N)."""
        if not self.num_behaviors:
            return 0
        # Memoryviews: one element of an array takes ten times as long to read.
        order, times = self.order.data, self.timestamp_ms.data
        if times[order[-1]] < time_ms:
            return self.num_behaviors
        return bisect_left(order, time_ms, key=times.__getitem__)

    def domain_and_action(self, rows: npt.NDArray[np.integer[Any]]) -> tuple[U8, U8]:
        """Gives the domain and action codes of some rows, each (len(rows),) uint8."""
        starts = np.array([s.start for s in self.sections], dtype=np.int64)
        at = np.searchsorted(starts, rows, side="right") - 1
        domains = np.array([s.domain for s in self.sections], dtype=np.uint8)
        actions = np.array([s.action for s in self.sections], dtype=np.uint8)
        return domains[at], actions[at]

    @staticmethod
    def empty() -> UserColumns:
        """Gives the history of a user never seen: a normal answer, with no rows."""
        return UserColumns(
            sections=(),
            node=np.empty(0, np.uint32),
            timestamp_ms=np.empty(0, np.int64),
            item=np.empty(0, np.uint64),
            scene=np.empty(0, np.uint16),
            rank=np.empty(0, np.uint16),
            order=np.empty(0, np.uint16),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UserExtras:
    """What a record keeps of one user's behaviors beside `UserColumns`; no search needs it.

    Rows stand as there, and the arrays are views of a record likewise.
    """

    category: Unsigned
    """Category ids as the events gave them, any unsigned type; all ones = missing. (N,)"""
    key: U64 | None
    """Event ids, `NO_ID` = none; None = the record has no such column, no event of it has an id. (N,)"""
    fields: tuple[AnyArray, ...]
    """Side-info fields in the order of `StoreMeta.behavior_fields`: ids of any unsigned type, all ones = missing; or
    float32, NaN = missing. Each (N,)"""
