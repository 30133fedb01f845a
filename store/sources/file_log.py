"""A growing JSONL file as a source: a position is a number of bytes, and a hash of what stands before them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, BinaryIO

from store.errors import InputError, StoreIOError
from store.sources.base import Position, SourceBatch, mark_of

if TYPE_CHECKING:
    from pathlib import Path

MAX_LINE_BYTES = 1 << 20
"""A longer line is no event: it is cut here, and what is left of it is passed over."""

_PAUSE_S = 0.05
_PARTITION = "0"
_MARK_BYTES = 4096
"""Of the start of the file, and as many before the position, make the mark."""


class FileLogSource:
    """Reads the complete lines of one file, and waits for more. The file may grow, and must not change otherwise."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        """Opens the file.

        Args:
            path: The file.
            name: Under which the position is stored; None = the file's path from the root.

        Raises:
            StoreIOError: It cannot be opened.
        """
        self._path = path
        self.name = name or str(path.resolve())
        """Under which the position is stored."""
        self._offset = 0
        self._mark = mark_of()
        try:
            self._file = path.open("rb")
        except OSError as exc:
            raise StoreIOError(f"{path}: cannot open the log ({exc}); name another file") from exc

    def partitions(self) -> tuple[str, ...]:
        """Gives the one partition there is."""
        return (_PARTITION,)

    def seek(self, partition: str, position: bytes | None) -> None:
        """Goes to the start of a line; see `EventSource.seek`."""
        known = Position(offset=0, mark=mark_of()) if position is None else Position.unpack(position)
        self._offset, self._mark = known.offset, known.mark
        try:
            self._check_same()
            self._file.seek(known.offset)
        except OSError as exc:
            raise self._unreadable(exc) from exc

    def poll(self, max_events: int, timeout_s: float) -> SourceBatch | None:
        """Gives the next complete lines; see `EventSource.poll`."""
        until = time.monotonic() + timeout_s
        while True:
            try:
                batch = self._read(max_events)
            except OSError as exc:
                raise self._unreadable(exc) from exc
            if batch is not None:
                return batch
            left_s = until - time.monotonic()
            if left_s <= 0:
                return None
            time.sleep(min(_PAUSE_S, left_s))

    def rest(self) -> SourceBatch | None:
        """Gives what stands behind the last complete line, cut to `MAX_LINE_BYTES`; see `EventSource.rest`."""
        try:
            found = os.pread(self._file.fileno(), MAX_LINE_BYTES, self._offset)
            return self._batch([found], [self._offset], self._offset + len(found)) if found else None
        except OSError as exc:
            raise self._unreadable(exc) from exc

    def close(self) -> None:
        """Closes the file; twice does nothing."""
        self._file.close()

    def _read(self, max_events: int) -> SourceBatch | None:
        lines: list[bytes] = []
        positions: list[int] = []
        end = self._offset
        while len(lines) < max_events:
            line, size, is_whole = bounded_line(self._file)
            if not is_whole:
                break
            lines.append(line)
            positions.append(end)
            end += size
        self._file.seek(end)
        # After reading: a file that was still the same now was so then.
        self._check_same()
        if lines:
            return self._batch(lines, positions, end)
        self._check_place()
        return None

    def _batch(self, lines: list[bytes], positions: list[int], end: int) -> SourceBatch:
        self._offset, self._mark = end, self._mark_at(end)
        position = Position(offset=end, mark=self._mark).pack()
        return SourceBatch(partition=_PARTITION, lines=lines, positions=positions, next_position=position)

    def _mark_at(self, offset: int) -> str:
        size = min(offset, _MARK_BYTES)
        file = self._file.fileno()
        return mark_of(os.pread(file, size, 0), os.pread(file, size, offset - size))

    def _check_same(self) -> None:
        if self._mark_at(self._offset) != self._mark:
            raise InputError(
                f"{self._path}: is not the file that was taken in up to byte {self._offset}: it was cut, written anew "
                f"or replaced; follow what is left of the old one by its new path and --name {self.name}, and this "
                "one under another --name"
            )

    def _check_place(self) -> None:
        """Checks, when everything is read, that the path still leads to the open file."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return  # moved away, and the next one is not there yet
        mine = os.fstat(self._file.fileno())
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise InputError(
                f"{self._path}: another file has taken its place; the old one is taken in up to byte {self._offset}. "
                "Follow this one under another --name"
            )

    def _unreadable(self, exc: OSError) -> StoreIOError:
        return StoreIOError(f"{self._path}: cannot read the log ({exc})")


def bounded_line(file: BinaryIO) -> tuple[bytes, int, bool]:
    """Gives the next line cut to `MAX_LINE_BYTES`, its length in the file, and whether it has an end; empty = none."""
    line = rest = file.readline(MAX_LINE_BYTES)
    size = len(line)
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(MAX_LINE_BYTES)
        size += len(rest)
    return line, size, bool(rest)
