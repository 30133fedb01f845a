"""What a build says of its result: the meta of the generation, and what the caller should know of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.base.files import BaseReader
from store.base.meta import StoreMeta
from store.building.partition import by_domain
from store.dataset.oddities import misspelt_tables
from store.dataset.readers import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from store.base.tables import FieldTable
    from store.building.partition import Counts, Plan
    from store.building.spill import SpillPart
    from store.dataset.oddities import Oddities
    from store.taxonomy.taxonomy import Taxonomy

_MANY_BEHAVIORS = 1_000
_MANY_USERS = 10
_LARGE_SHARE = 0.1


def meta_of(
    plan: Plan, counts: Counts, taxonomy: Taxonomy, items: FieldTable, users: FieldTable, sequence: int
) -> StoreMeta:
    """Gives the facts of a generation for its manifest; `sequence` is the last of the delta that it has merged."""
    words = plan.vocabulary
    return StoreMeta(
        delta_sequence=sequence,
        domains=words.domains,
        actions=words.actions,
        scenes=words.scenes,
        streams=tuple(divmod(stream, 256) for stream in sorted(counts.by_stream)),
        tree_domains=taxonomy.tree_domains,
        behavior_fields=plan.kinds,
        item_fields=tuple(items.fields),
        user_fields=tuple(users.fields),
        item_lists=items.lists,
        user_lists=users.lists,
        taxonomy_fingerprint=taxonomy.fingerprint(),
        num_users=counts.num_users,
        num_behaviors=counts.num_behaviors,
        num_by_domain=by_domain(counts.by_stream, len(words.domains)),
        num_unmapped=counts.num_unmapped,
        num_categories=len(taxonomy.category_ids),
        num_items=len(taxonomy.item_ids),
        first_ms=counts.first_ms or 0,
        last_ms=counts.last_ms or 0,
        keyed=plan.widths.keyed,
        largest_ids=plan.widths.largest,
    )


def span_of(parts: Sequence[SpillPart]) -> tuple[int, int] | None:
    """Gives the times of the oldest and the newest row of some parts; None = they have none."""
    spans = [(part.first_ms, part.last_ms) for part in parts if part.first_ms is not None and part.last_ms is not None]
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None


def warnings_of(folders: Sequence[Path], odd: Oddities, counts: Counts, base: Path) -> Iterator[str]:
    """Gives what the caller should know.

    Args:
        folders: Of the input.
        odd: What was met while it was read.
        counts: Of the result.
        base: Folder of the result's base.
    """
    for folder in folders:
        yield from misspelt_tables(folder, SUFFIXES)
    yield from map(str, odd.found())
    size, user = counts.largest_user
    is_large = size >= _LARGE_SHARE * counts.num_behaviors
    if is_large and counts.num_behaviors >= _MANY_BEHAVIORS and counts.num_users >= _MANY_USERS:
        with BaseReader(base).begin() as transaction:
            name = transaction.name("user", user) or str(user)
        share = size / counts.num_behaviors
        yield f"user {name} has {share:.0%} of all behaviors: does the id stand for nobody in particular?"
