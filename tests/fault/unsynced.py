"""What a power failure could take: files and folders that were changed and not synced, at any call of a trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(slots=True)
class Unsynced:
    """The state after some calls of `children.count_calls`. Paths begin with a slash, "" is the traced folder itself.

    A sync of a file makes its content durable, one of a folder the names in it. Removals do not count: what comes back
    after a power failure is removed again.
    """

    files: set[str] = field(default_factory=set)
    """Files with content that is not on the disk."""
    folders: set[str] = field(default_factory=set)
    """Folders with names that are not on the disk."""
    num_writes: int = 0

    def follow(self, calls: Iterable[str]) -> None:
        """Takes account of further calls."""
        for line in calls:
            call, *paths = line.split(" ")
            getattr(self, f"_{call.replace('+', '_')}", self._nothing)(*(path.rstrip("/") for path in paths))

    def _write(self, path: str) -> None:
        self.num_writes += 1
        self.files.add(path)

    def _write_sync(self, path: str) -> None:
        self.num_writes += 1

    def _truncate(self, path: str) -> None:
        self.files.add(path)

    def _create(self, path: str) -> None:
        self.files.add(path)
        self.folders.add(path.rpartition("/")[0])

    def _mkdir(self, path: str) -> None:
        self.folders.add(path.rpartition("/")[0])

    def _fsync(self, path: str) -> None:
        self.files.discard(path)
        self.folders.discard(path)

    _fdatasync = _fsync

    def _rename(self, *paths: str) -> None:
        source, target = paths  # within the traced folder
        for found in (self.files, self.folders):
            moved = {path for path in found if path == source or path.startswith(f"{source}/")}
            found -= moved
            found |= {target + path[len(source) :] for path in moved}
        self.folders |= {path.rpartition("/")[0] for path in paths}

    def _remove(self, path: str) -> None:
        for found in (self.files, self.folders):
            found -= {other for other in found if other == path or other.startswith(f"{path}/")}

    def _nothing(self, *paths: str) -> None:
        """Of a call that changes no content and no name."""
