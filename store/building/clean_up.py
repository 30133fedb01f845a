"""After a publication: removes what is no longer needed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from store.base.sequence import merged_sequence, smallest_sequence
from store.delta.writer import DeltaWriter
from store.errors import LockedError, StoreError
from store.publishing.kept import kept_generations, remove_generations

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from store.delta.layout import Tombstone


def clean_up(root: Path, work: Path, keep: int, tombstones: Collection[Tombstone]) -> tuple[list[str], str]:
    """Removes a build's work, old generations, and live events that every kept one has merged.

    The new generation is published: no failure here changes that.

    Args:
        root: Root of the store, whose build lock the caller has.
        work: Folder of the build's parts.
        keep: Generations to keep.
        tombstones: Every deletion there ever was.

    Returns:
        The generations removed, and why something could not be removed, empty when all was.
    """
    shutil.rmtree(work, ignore_errors=True)
    try:
        return _remove_and_trim(root, keep, max((tombstone.sequence for tombstone in tombstones), default=0)), ""
    except StoreError as exc:
        return [], str(exc)


def _remove_and_trim(root: Path, keep: int, newest_deletion: int) -> list[str]:
    # A deletion is for good: an older generation that may still hold a deleted user goes, whatever `keep` says.
    outdated = frozenset(name for name in kept_generations(root) if merged_sequence(root, name) < newest_deletion)
    removed = remove_generations(root, keep, outdated)
    try:
        with DeltaWriter(root) as delta:
            delta.trim(smallest_sequence(root))
    except LockedError:
        pass  # its holder trims it when it follows the new generation
    return removed
