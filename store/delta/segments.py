"""The segments of the delta read side by side, so that every user's events come together."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING

from store.delta.layout import segment_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.files.environment import Cursor

    Item = tuple[bytes, bytes]


class SegmentReader:
    """Reads the events of one segment in the order of the users, some in advance."""

    def __init__(self, cursor: Cursor[bytes], segment: int, first_key: bytes | None, end_key: bytes | None) -> None:
        """Begins to read.

        Args:
            cursor: A cursor of its own.
            segment: The segment.
            first_key: First user key; None = from the start.
            end_key: User key to stop before; None = to the end of the segment.
        """
        self._end = segment_prefix(segment + 1) if end_key is None else segment_prefix(segment, end_key)
        found = cursor.set_range(segment_prefix(segment, first_key or b""))
        self._items = cursor.iternext() if found else iter(())
        self.held: list[Item] = []
        """Events read and not yet taken."""
        self.is_done = False
        """Whether everything has been read."""

    def read(self, num_rows: int) -> None:
        """Reads on until `count` events and the first of a second user are held, or the end is reached."""
        while not self.is_done and (len(self.held) < num_rows or self.last_user == _user(self.held[0])):
            fresh = list(islice(self._items, num_rows))
            self.held += fresh
            self.is_done = len(fresh) < num_rows
            if self.held and self.held[-1][0] >= self._end:
                del self.held[bisect_left(self.held, (self._end, b"")) :]
                self.is_done = True

    def take(self, before: bytes | None) -> list[Item]:
        """Gives the held events of users before a key, None = all, and holds them no longer."""
        cut = len(self.held) if before is None else bisect_left(self.held, before, key=_user)
        taken, self.held = self.held[:cut], self.held[cut:]
        return taken

    @property
    def last_user(self) -> bytes:
        """Key of the user of the last event held."""
        return _user(self.held[-1])


def next_users(readers: Sequence[SegmentReader], num_rows: int) -> list[Item]:
    """Gives all events of the next users, those of one segment after those of another.

    Args:
        readers: By segment.
        num_rows: Number of events to aim at.
    """
    for reader in readers:
        reader.read(max(num_rows // len(readers), 1))
    # The last user that a segment holds may have more events there.
    before = min((reader.last_user for reader in readers if not reader.is_done), default=None)
    return [item for reader in readers for item in reader.take(before)]


def _user(item: Item) -> bytes:
    return item[0][6:14]
