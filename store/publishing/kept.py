"""The generations that a root keeps: which there are, going back to one, and removing those that are not needed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from store.errors import MissingGenerationError, translate_os_errors
from store.publishing.generation import (
    GENERATION_NAME,
    current_name,
    swap_current,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from store.publishing.manifest import Kind

LOCK_FILE = "build.lock"
"""File of a root that is locked while generations are published, removed or gone back to."""


def kept_generations(root: Path) -> list[str]:
    """Gives the names of the generations under a root, oldest first."""
    folder = root / "generations"
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if GENERATION_NAME.fullmatch(path.name))


def roll_back(root: Path, kind: Kind, check: Callable[[Path, str], object], name: str | None = None) -> str:
    """Makes an older generation the current one again; no event that was appended meanwhile is lost.

    The caller holds the lock.

    Args:
        root: Root of the artefact.
        kind: Kind of artefact.
        check: Opens a generation of that kind by root and name, and raises when it is damaged.
        name: Generation to go back to; None = the one before the current.

    Returns:
        Its name.

    Raises:
        MissingGenerationError: There is no such generation, or none before.
        CorruptGenerationError: It is damaged; the current one stays.
    """
    if name is None:
        older = [kept for kept in kept_generations(root) if kept < current_name(root, kind)]
        if not older:
            raise MissingGenerationError(
                f"{root}: no generation before the current one is kept: builds keep as many as `--keep N` says, and "
                "none that holds a user deleted since"
            )
        name = older[-1]
    check(root, name)
    with translate_os_errors(f"{root}: cannot make {name} current"):
        swap_current(root, name)
    return name


def remove_generations(root: Path, keep: int, always: frozenset[str] = frozenset(), kind: Kind = "store") -> list[str]:
    """Removes generations: all but the newest that many and the current one, and all of `always`.

    Servers that still read one go on undisturbed. The caller holds the lock.

    Args:
        root: Root of the store, or of another kind of artefact.
        keep: Number to keep, at least 1.
        always: Names of generations to remove in any case, unless current.
        kind: Kind of artefact.

    Returns:
        Names of the removed ones.
    """
    current = current_name(root, kind)
    names = kept_generations(root)
    removed = [name for name in names if name != current and (name in always or name not in names[-keep:])]
    for name in removed:
        with translate_os_errors(f"{root}: cannot remove generation {name}"):
            # Out of sight at once: half a generation is never seen.
            trash = root / f".removed-{name}"
            (root / "generations" / name).rename(trash)
            shutil.rmtree(trash)
    return removed


def remove_leftovers(root: Path, spare: frozenset[str] = frozenset()) -> None:
    """Removes what builds that were killed left behind. The caller holds the lock."""
    for path in root.glob(".*-*"):
        if path.name.startswith((".building-", ".removed-", ".ingest-", ".current-")) and path.name not in spare:
            with translate_os_errors(f"{path}: cannot remove"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
