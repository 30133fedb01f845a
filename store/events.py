"""Events as columns, in the order of the input: rows for a build, and batches on their way into the delta."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from store.columns import Columns
from store.errors import InputError
from store.fields import VALUE_TYPES, ValueColumn, value_type_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from store.fields import FieldKinds
    from store.types import I64, U16, U64, NameKind

STREAMS_PER_DOMAIN = 256
"""A stream is `domain code * 256 + action code`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRows(Columns):
    """Events of any users in any order, columns of length N."""

    user: U64
    item: U64
    category: U64
    """As given, in the name space of the domain's tree; `NO_ID` = none."""
    timestamp_ms: I64
    stream: U16
    """Domain code * 256 + action code."""
    scene: U16
    key: U64 | None
    """Event ids, `NO_ID` = none; None = no event has one."""
    fields: tuple[ValueColumn, ...]
    """Side-info fields, in the order of the `FieldKinds` they come with."""


ROW_TYPES = {"user": "u8", "item": "u8", "category": "u8", "timestamp_ms": "i8", "stream": "u2", "scene": "u2"}
"""Element types of the columns that all `EventRows` have, in their order."""


def empty_rows(kinds: FieldKinds) -> EventRows:
    """Gives no rows."""
    columns: dict[str, Any] = {name: np.empty(0, dtype) for name, dtype in ROW_TYPES.items()}
    return EventRows(**columns, key=None, fields=tuple(VALUE_TYPES[kind].missing(0) for _, kind in kinds))


_DTYPES = {"user": "uint64", "item": "uint64", "category": "uint64", "timestamp_ms": "int64", "key": "uint64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBatch:
    """Events in the order in which they happened to arrive, columns of length N.

    Values that break the contract of docs/data.md are refused row by row when the batch is appended, not here.
    """

    user: U64
    item: U64
    category: U64
    """In the tree of the event's domain if that has one, else of the ads'; `NO_ID` = none. (N,)"""
    timestamp_ms: I64
    """Milliseconds UTC. (N,)"""
    domain: Sequence[str]
    action: Sequence[str]
    scene: Sequence[str]
    """Empty = none. (N,)"""
    key: U64
    """Event id; `NO_ID` = none. (N,)"""
    fields: Mapping[str, ValueColumn] = field(default_factory=lambda: MappingProxyType({}))
    """Side-info by name: uint64 ids, `NO_ID` = missing, or float32, NaN = missing. Each (N,)"""
    names: Mapping[NameKind, Mapping[int, str]] = field(default_factory=lambda: MappingProxyType({}))
    """Names of ids that are not the decimal form of the id; kept for the ids of accepted events."""
    refused: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """Rows that are already known to be bad, with the reason; their values are ignored."""

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            if getattr(self, name).dtype != dtype:
                raise InputError(f"{name}: must be {dtype}, is {getattr(self, name).dtype}")
        for name, column in self.fields.items():
            if not value_type_of(column).fits(column):
                raise InputError(f"{name}: must be uint64 or float32, is {column.dtype}")
        columns = {name: getattr(self, name) for name in (*_DTYPES, "domain", "action", "scene")}
        for name, column in {**columns, **self.fields}.items():
            if len(column) != len(self.user):
                raise InputError(f"{name}: {len(column)} values for {len(self.user)} events")

    def __len__(self) -> int:
        return len(self.user)
