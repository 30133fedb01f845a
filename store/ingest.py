"""Makes a store generation of a dataset folder: reads and checks everything, then publishes at once, or nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.bad_rows import BadRows
from store.base import BaseWriter
from store.codec import encode_user
from store.events import EventReader, sort_events
from store.generation import GenerationWriter
from store.meta import StoreMeta
from store.numbering import build_taxonomy
from store.side_tables import IdPools, ItemInput, read_bridges, read_categories, read_items, read_users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from store.bad_rows import BadRow
    from store.events import SortedEvents
    from store.tables import FieldTable
    from store.taxonomy import Taxonomy
    from store.types import Vocabulary

    Progress = Callable[[str, float], None]
    """Called with the name of the step and the part of it that is done, 0 to 1."""

_USERS_PER_TICK = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingest did."""

    generation: str
    """Name of the generation it published."""
    meta: StoreMeta
    num_duplicates: int
    """Behaviors left out because an earlier one has their event id, or user, item, action and time."""
    bad_rows: tuple[BadRow, ...]
    """Refused rows, of all files."""
    duration_s: float


def ingest(
    dataset: Path,
    root: Path,
    *,
    max_bad_rows: int = 0,
    bad_rows_file: Path | None = None,
    progress: Progress = lambda step, done: None,
) -> IngestReport:
    """Reads a dataset folder (docs/data.md), checks it and publishes it as the current generation.

    Everything is held in memory. The same folder always gives the same content.

    Args:
        dataset: Folder of the input files.
        root: Store to publish in; made if need be.
        max_bad_rows: Rows that may be refused, over all files.
        bad_rows_file: CSV file to list refused rows in, also when there are too many.
        progress: Told of every step.

    Raises:
        TooManyBadRowsError: More bad rows than allowed.
        InputError: A file is missing or unreadable, or the taxonomy is no tree.
        StoreIOError: The disk is full, or not writable. In every case nothing is published.
    """
    started = time.monotonic()
    bad_rows = BadRows(max_bad_rows)
    try:
        return _ingest(dataset, root, bad_rows, progress, started)
    finally:
        if bad_rows_file is not None:
            bad_rows.write(bad_rows_file)


def _ingest(dataset: Path, root: Path, bad_rows: BadRows, progress: Progress, started: float) -> IngestReport:
    pools = IdPools()
    progress("read tables", 0.0)
    categories = read_categories(dataset, pools, bad_rows)
    bridges = read_bridges(dataset, pools, bad_rows)
    items = read_items(dataset, pools, bad_rows)
    users = read_users(dataset, pools, bad_rows)
    taxonomy = build_taxonomy(categories, bridges, items.rows)
    progress("read tables", 1.0)
    reader = EventReader(pools, taxonomy, bad_rows)
    read = reader.read(dataset, lambda done: progress("read behaviors", done))
    progress("sort", 0.0)
    events, vocabulary = sort_events(read, reader)
    progress("sort", 1.0)
    meta = _meta(events, vocabulary, taxonomy, items, users)
    with GenerationWriter(root, kind="store") as writer:
        taxonomy.save(writer.path / "taxonomy")
        items.fields.save(writer.path / "items")
        items.covers.save(writer.path / "covers")
        users.save(writer.path / "users")
        _write_base(writer.path / "base", events, pools, progress)
        writer.meta.update(meta.model_dump(mode="json"))
        progress("publish", 0.0)
        name = writer.publish()
        progress("publish", 1.0)
    return IngestReport(
        generation=name,
        meta=meta,
        num_duplicates=len(read) - len(events),
        bad_rows=tuple(bad_rows.rows),
        duration_s=time.monotonic() - started,
    )


def _write_base(folder: Path, events: SortedEvents, pools: IdPools, progress: Progress) -> None:
    def records() -> Iterator[tuple[int, bytes]]:
        for number, (user, columns) in enumerate(events.columns()):
            if number % _USERS_PER_TICK == 0:
                progress("write", number / len(events.users))
            yield user, encode_user(columns)

    with BaseWriter(folder) as base:
        base.put_users(records())
        base.put_names("category", sorted(pools.categories.names.items()))
        base.put_names("item", sorted(pools.items.names.items()))
        base.put_names("user", sorted(pools.users.names.items()))
    progress("write", 1.0)


def _meta(
    events: SortedEvents, vocabulary: Vocabulary, taxonomy: Taxonomy, items: ItemInput, users: FieldTable
) -> StoreMeta:
    streams = np.unique(events.stream).tolist()
    return StoreMeta(
        domains=vocabulary.domains,
        actions=vocabulary.actions,
        scenes=vocabulary.scenes,
        streams=tuple(divmod(stream, 256) for stream in streams),
        tree_domains=taxonomy.tree_domains,
        item_fields=tuple(items.fields.fields),
        user_fields=tuple(users.fields),
        taxonomy_fingerprint=taxonomy.fingerprint(),
        num_users=len(events.users),
        num_behaviors=len(events),
        num_unmapped=int(np.count_nonzero(events.node == taxonomy.unmapped)),
        num_categories=len(taxonomy.category_ids),
        num_items=len(taxonomy.item_ids),
        first_ms=int(events.timestamp_ms.min()) if len(events) else 0,
        last_ms=int(events.timestamp_ms.max(initial=0)),
    )
