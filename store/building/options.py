"""What a build is asked for, what it tells meanwhile, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from store.base.meta import StoreMeta
    from store.building.event_files import BehaviorFiles
    from store.building.partition import Counts
    from store.building.retention import Retention
    from store.errors import BadRow


class Progress(Protocol):
    """Called with the progress of a build."""

    def __call__(self, step: str, done: float, rows: int = 0) -> None:
        """Takes the name of the step, the part of it that is done (0 to 1), and the rows it has handled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What to build, and with what means."""

    files: BehaviorFiles | None
    """Behaviors to add; None = only what the store holds already."""
    tables: tuple[Path, ...]
    """Folders with tables that replace those of the store, the first one that has a table."""
    shrink_tables: bool
    """Whether such a table may lack rows of the store's."""
    replace: bool
    """Whether to drop the old base; live events that are not merged yet stay."""
    memory_bytes: int
    """What the build may use beside the tables, about; larger is faster, up to a point."""
    processes: int
    retention: Retention
    keep: int
    """Generations to keep, the new one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build did. Rows add up: what was in the base, read and live is now held or counted as left out."""

    generation: str
    """Name of the generation it published."""
    meta: StoreMeta
    counts: Counts
    num_read: int
    """Behaviors accepted from files."""
    num_live: int
    """Behaviors merged from the delta."""
    num_resumed: int
    """Parts of the input that an earlier run, which was killed, had read already."""
    bad_rows: tuple[BadRow, ...]
    """Refused rows, of all files."""
    read_span: tuple[int, int] | None
    """Times of the oldest and the newest behavior accepted from files, milliseconds UTC; None = there was none."""
    warnings: tuple[str, ...]
    """What is odd about the input without being wrong, a line each."""
    removed: tuple[str, ...]
    """Generations removed."""
    leftover: str
    """Why something that is not needed any more could not be removed after the publication; empty = all was."""
    duration_s: float
