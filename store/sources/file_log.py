"""A growing JSONL file as a source: a position is a number of bytes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from store.errors import InputError, StoreIOError
from store.sources.base import SourceBatch

if TYPE_CHECKING:
    from pathlib import Path

MAX_LINE_BYTES = 1 << 20
"""A longer line is no event: it is cut here, and what is left of it is passed over."""

_PAUSE_S = 0.05
_PARTITION = "0"


class FileLogSource:
    """Reads the complete lines of one file, and waits for more. The file may grow, and must not change otherwise."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        """Opens the file.

        Args:
            path: The file.
            name: Under which the position is stored; None = the file's own name.

        Raises:
            StoreIOError: It cannot be opened.
        """
        self._path = path
        self.name = name or path.name
        """Under which the offset is stored."""
        try:
            self._file = path.open("rb")
        except OSError as exc:
            raise StoreIOError(f"{path}: cannot open the log ({exc}); name another file") from exc

    def partitions(self) -> tuple[str, ...]:
        """Gives the one partition there is."""
        return (_PARTITION,)

    def seek(self, partition: str, offset: int) -> None:
        """Goes to the start of a line; see `EventSource.seek`."""
        try:
            self._file.seek(max(offset - 1, 0))
            before = self._file.read(min(offset, 1))
            self._file.seek(offset)
        except OSError as exc:
            raise StoreIOError(f"{self._path}: cannot read the log ({exc})") from exc
        if offset and before != b"\n":
            raise InputError(
                f"{self._path}: no line ends at byte {offset}, up to which it was taken in: it was cut or replaced; "
                "put the old file back, or follow the new one under another --name"
            )

    def poll(self, max_events: int, timeout_s: float) -> SourceBatch | None:
        """Gives the next complete lines; see `EventSource.poll`."""
        until = time.monotonic() + timeout_s
        while True:
            batch = self._read(max_events)
            if batch is not None:
                return batch
            left_s = until - time.monotonic()
            if left_s <= 0:
                return None
            time.sleep(min(_PAUSE_S, left_s))

    def close(self) -> None:
        """Closes the file; twice does nothing."""
        self._file.close()

    def _read(self, max_events: int) -> SourceBatch | None:
        lines: list[bytes] = []
        positions: list[int] = []
        try:
            start = self._file.tell()
            while len(lines) < max_events:
                line, size = self._read_line()
                if size == 0:
                    break
                lines.append(line)
                positions.append(start)
                start += size
            self._file.seek(start)
            length = os.fstat(self._file.fileno()).st_size
        except OSError as exc:
            raise StoreIOError(f"{self._path}: cannot read the log ({exc})") from exc
        if length < start:
            raise InputError(f"{self._path}: {length} bytes are left of {start} that were read: it was cut")
        if not lines:
            return None
        return SourceBatch(partition=_PARTITION, lines=lines, positions=positions, next_offset=start)

    def _read_line(self) -> tuple[bytes, int]:
        """Gives a line and its length; 0 at the end, or where a line is still being written."""
        line = self._file.readline(MAX_LINE_BYTES)
        size = len(line)
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = self._file.readline(MAX_LINE_BYTES)
            size += len(rest)
        return line, size if rest else 0
