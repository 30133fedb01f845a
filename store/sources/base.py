"""What a source of events is: named partitions, each a sequence of lines with ascending positions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol, Self

import xxhash

from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a partition has been read, and by what to tell that it is still the same log: names are used again."""

    offset: int
    mark: str
    """Hash of what stands before the offset, as the source takes it."""

    def pack(self) -> bytes:
        """Gives what is stored."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, stored: bytes) -> Self:
        """Reads what was stored.

        Raises:
            InputError: It is no position.
        """
        try:
            found = cls(**json.loads(stored))
            if type(found.offset) is int and found.offset >= 0 and isinstance(found.mark, str):
                return found
        except (ValueError, TypeError):
            pass
        raise InputError(f"the stored position {stored!r} is none; follow the log under another --name")


def mark_of(*parts: bytes) -> str:
    """Gives the hash of what stands before a position."""
    return xxhash.xxh3_64_hexdigest(b"".join(parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBatch:
    """Consecutive lines of one partition."""

    partition: str
    lines: Sequence[bytes]
    """One JSON object each. (N,)"""
    positions: Sequence[int]
    """Of each line, for reports. (N,)"""
    next_position: bytes
    """Where to seek to read on behind the last line, a `Position`."""


class EventSource(Protocol):
    """A log of events, shaped like Kafka's. One thread at a time."""

    @property
    def name(self) -> str:
        """Under which the positions are stored; another log, another name."""
        ...

    def partitions(self) -> Sequence[str]:
        """Gives the names of the partitions that there are now; there may be more later.

        Raises:
            StoreIOError: The source cannot be reached.
        """
        ...

    def seek(self, partition: str, position: bytes | None) -> None:
        """Goes to a position that `SourceBatch.next_position` gave; None = to the first line.

        Raises:
            InputError: The log is not the one in which the position was taken: it was cut, written anew or replaced.
            StoreIOError: The source cannot be read.
        """
        ...

    def poll(self, max_events: int, timeout_s: float) -> SourceBatch | None:
        """Gives the next lines of some partition, None when there are none before the time is up.

        Args:
            max_events: Largest number of lines.
            timeout_s: How long to wait for the first one; 0 = not at all.

        Raises:
            InputError: As `seek`; a source may notice it late.
            StoreIOError: The source cannot be read.
        """
        ...

    def rest(self) -> SourceBatch | None:
        """Gives what stands behind the last complete line as a line; None = nothing.

        It may be the last line of a log that is finished, or the beginning of one that is being written.
        """
        ...

    def close(self) -> None:
        """Gives up files and connections; twice does nothing."""
        ...
