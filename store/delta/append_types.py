"""Events on their way into the delta, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from store.events import FieldKinds
    from store.generations.base import NameKind
    from store.types import F32, I64, U8, U64, Bool, Vocabulary

ACCEPTED = 1
DUPLICATE = 2
REFUSED = 3
"""What became of an event."""

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
    fields: Mapping[str, U64 | F32] = field(default_factory=lambda: MappingProxyType({}))
    """Side-info by name: uint64 ids, `NO_ID` = missing, or float32, NaN = missing. Each (N,)"""
    names: Mapping[NameKind, Mapping[int, str]] = field(default_factory=lambda: MappingProxyType({}))
    """Names of ids that are not the decimal form of the id; kept for the ids of accepted events."""
    refused: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """Rows that are already known to be bad, with the reason; their values are of no account."""

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            if getattr(self, name).dtype != dtype:
                raise InputError(f"{name}: must be {dtype}, is {getattr(self, name).dtype}")
        for name, column in self.fields.items():
            if column.dtype not in (np.uint64, np.float32):
                raise InputError(f"{name}: must be uint64 or float32, is {column.dtype}")
        columns = {name: getattr(self, name) for name in (*_DTYPES, "domain", "action", "scene")}
        for name, column in {**columns, **self.fields}.items():
            if len(column) != len(self.user):
                raise InputError(f"{name}: {len(column)} values for {len(self.user)} events")

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """What became of the events of one batch."""

    result: U8
    """`ACCEPTED`, `DUPLICATE` (an earlier event is the same; nothing was written) or `REFUSED`. (N,)"""
    reasons: Mapping[int, str]
    """Why, for each refused row; starts with the name of the field."""
    sequence: int
    """Last sequence number of the delta at the commit: a read that sees it sees every accepted event."""

    @property
    def num_accepted(self) -> int:
        """Number of events written."""
        return int(np.count_nonzero(self.result == ACCEPTED))

    @property
    def num_duplicates(self) -> int:
        """Number of events that were there already."""
        return int(np.count_nonzero(self.result == DUPLICATE))

    @property
    def num_refused(self) -> int:
        """Number of events that break the contract."""
        return int(np.count_nonzero(self.result == REFUSED))


class BaseView(Protocol):
    """What an append asks of the current generation."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its domains, actions and scenes."""
        ...

    @property
    def fields(self) -> FieldKinds:
        """Its side-info fields."""
        ...

    @property
    def delta_sequence(self) -> int:
        """Everything in the delta up to this number is in it."""
        ...

    def repeated(self, events: EventBatch, rows: I64) -> Bool:
        """Gives which events it holds already: of one event id, or without one of one item, action and time.

        Args:
            events: The batch.
            rows: Rows to look at, grouped by user; they are in order, and none was refused. (M,)

        Returns:
            (M,)
        """
        ...
