"""What a source of events is: named partitions, each a sequence of lines with ascending positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBatch:
    """Consecutive lines of one partition."""

    partition: str
    lines: Sequence[bytes]
    """One JSON object each. (N,)"""
    positions: Sequence[int]
    """Of each line, for reports. (N,)"""
    next_offset: int
    """Where to seek to read on behind the last line."""


class EventSource(Protocol):
    """A log of events, shaped like Kafka's. One thread at a time."""

    @property
    def name(self) -> str:
        """Under which the offsets are stored; another log, another name."""
        ...

    def partitions(self) -> Sequence[str]:
        """Gives the names of the partitions.

        Raises:
            StoreIOError: The source cannot be reached.
        """
        ...

    def seek(self, partition: str, offset: int) -> None:
        """Goes to a position: 0 is the first, others are what `SourceBatch.next_offset` gave.

        Raises:
            InputError: The log does not go back or on to it: it was cut, or is another one.
        """
        ...

    def poll(self, max_events: int, timeout_s: float) -> SourceBatch | None:
        """Gives the next lines of some partition, None when there are none before the time is up.

        Args:
            max_events: Largest number of lines.
            timeout_s: How long to wait for the first one; 0 = not at all.

        Raises:
            StoreIOError: The source cannot be read.
        """
        ...

    def close(self) -> None:
        """Gives up files and connections; twice does nothing."""
        ...
