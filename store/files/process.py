"""Objects whose state belongs to one process: a fork inherits the memory, and must not go on with it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from store.errors import StoreClosedError

if TYPE_CHECKING:
    from pathlib import Path


class OwnProcess:
    """The process in which a writer was opened.

    Two that write by one memory of words and events would give one code to two words, and store an event twice.
    """

    def __init__(self, path: Path) -> None:
        """Takes this process.

        Args:
            path: What is written, for messages.
        """
        self._path = path
        self._process = os.getpid()

    @property
    def is_another(self) -> bool:
        """Whether this process was forked from that one since."""
        return os.getpid() != self._process

    def check(self) -> None:
        """Checks that this process is that one; before any lock, for a thread that is not here may hold it.

        Raises:
            StoreClosedError: It is not.
        """
        if self.is_another:
            raise StoreClosedError(
                f"{self._path}: its writer was opened by process {self._process} before a fork, and only that process "
                "may use it"
            )
