"""Looks for a user in every file of a store: what is left of a deleted user, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.delta.delta import Delta
from store.files.arrays import find_sorted
from store.operations.digest import table_batches
from store.publishing.generation import current_name, open_generation
from store.publishing.kept import kept_generations
from store.reading.loaded import LoadedGeneration
from store.records.codec import num_rows
from store.types import parse_id

if TYPE_CHECKING:
    from pathlib import Path

    from store.delta.layout import Tombstone

_UNFINISHED = (".building-", ".ingest-", ".removed-")
"""How the folders of builds begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place where something of a user may be."""

    name: str
    """Name of the generation, `delta`, or name of a folder in which a build works."""
    found: tuple[str, ...]
    """What of the user is there; empty = nothing."""
    must_go: bool
    """Whether the user was deleted and what is found is from before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTrace:
    """Where a user is."""

    tombstone: Tombstone | None
    """None = never deleted."""
    places: tuple[Place, ...]
    """Every kept generation, oldest first, the delta if there is one, and what is left of unfinished builds."""

    @property
    def remains(self) -> tuple[str, ...]:
        """Names of the places that still hold what was deleted."""
        return tuple(place.name for place in self.places if place.must_go)


def trace_user(root: Path, user: int) -> UserTrace:
    """Looks for a user in every kept generation and in the delta, physically: hidden rows are found too.

    A tombstone itself says that the user with this key was deleted, and when; it stays for good.

    Args:
        root: The store.
        user: User id.

    Raises:
        GenerationError: Nothing is published, or a generation or the delta is damaged, so that it cannot be told.
    """
    current_name(root, "store")
    delta = Delta.open(root)
    tombstone = None
    places: list[Place] = []
    if delta is not None:
        with delta.begin() as transaction:
            tombstone = transaction.tombstone(user)
    for name in kept_generations(root):
        generation = LoadedGeneration(open_generation(root, "store", name))
        places.append(_in_generation(generation, user, tombstone))
    if delta is not None:
        places.append(_in_delta(delta, user, tombstone))
    places += [_unfinished(path) for path in sorted(root.glob(".*-*")) if path.name.startswith(_UNFINISHED)]
    return UserTrace(tombstone=tombstone, places=tuple(places))


def _unfinished(path: Path) -> Place:
    # Spilled rows of a build that runs, or was killed; the next build removes what is not needed.
    return Place(name=path.name, found=("an unfinished build, not looked into",), must_go=False)


def _in_generation(generation: LoadedGeneration, user: int, tombstone: Tombstone | None) -> Place:
    with generation.base.begin() as transaction:
        record, name = transaction.record(user), transaction.name("user", user)
    found = []
    if record is not None:
        found.append(f"{num_rows(record):,} behaviors")
    if name is not None:
        found.append("the name")
    if find_sorted(generation.users.ids, np.array([user], np.uint64))[1].any():
        found.append("side-info")
    for batch in table_batches(generation.path / "tables", "users"):
        if any(parse_id(text, "user") == user for text in batch.column("user").to_pylist()):
            found.append("a row of the users table")
    # A generation built after the deletion can hold what came after it, and with it the name.
    is_older = tombstone is not None and generation.meta.delta_sequence < tombstone.sequence
    is_orphan = tombstone is not None and record is None and bool(found)
    return Place(name=generation.name, found=tuple(found), must_go=bool(found) and (is_older or is_orphan))


def _in_delta(delta: Delta, user: int, tombstone: Tombstone | None) -> Place:
    with delta.begin() as transaction:
        sequences = transaction.rows(user).sequence.tolist()
        has_name = transaction.name("user", user) is not None
    found = [f"{len(sequences):,} events"] if sequences else []
    found += ["the name"] if has_name else []
    must_go = tombstone is not None and (
        any(sequence <= tombstone.sequence for sequence in sequences) or (has_name and not sequences)
    )
    return Place(name="delta", found=tuple(found), must_go=must_go)
