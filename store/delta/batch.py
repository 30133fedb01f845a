"""What an append asks of the generation below it, and what became of its events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from store.events import EventBatch
    from store.fields import FieldKinds
    from store.types import I64, U8, Bool, Vocabulary

ACCEPTED = 1
DUPLICATE = 2
REFUSED = 3
"""What became of an event."""


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
