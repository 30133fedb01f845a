"""Which part of the delta the kept generations of a store have merged, and going back to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.base.meta import read_meta
from store.errors import GenerationError
from store.publishing.generation import open_generation
from store.publishing.kept import kept_generations, roll_back

if TYPE_CHECKING:
    from pathlib import Path


def merged_sequence(root: Path, name: str) -> int:
    """Gives the delta sequence up to which a generation has merged; 0 where it cannot be read."""
    try:
        return read_meta(open_generation(root, "store", name, check_content=False)).delta_sequence
    except GenerationError:
        return 0


def smallest_sequence(root: Path) -> int:
    """Gives the delta sequence up to which every kept generation has merged: no event up to it will be read again."""
    return min((merged_sequence(root, name) for name in kept_generations(root)), default=0)


def roll_back_store(root: Path, name: str | None = None) -> str:
    """Makes an older generation of a store the current one again; see `roll_back`. The caller holds the lock."""
    return roll_back(root, "store", lambda root, name: read_meta(open_generation(root, "store", name)), name)
