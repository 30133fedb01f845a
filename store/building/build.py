"""Builds the next generation of a store: old base, new files and delta, all of it or nothing.

What an ingest and a rebuild share. The steps, under the store's build lock::

    files ----> parts (spill), by partition --.
    delta ----> a part of its own ------------+--> per partition: arrange, encode --> base --> publish
    old base -- its range of keys ------------'
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from store.base.files import BaseReader, BaseWriter
from store.base.meta import read_meta
from store.building.clean_up import clean_up
from store.building.delta_part import spill_delta
from store.building.event_files import BehaviorFiles
from store.building.facts import meta_of, span_of, warnings_of
from store.building.names import NAME_KINDS, merge_names, sorted_names, spilled_names, without
from store.building.options import BuildReport
from store.building.partition import BaseSource, PartSource, Plan
from store.building.shrink import refuse_smaller
from store.building.spill import used_words
from store.building.widths import widths_of
from store.building.work import Work, encode_partitions, partition_bits, spill_pieces
from store.dataset.column_types import join_types, kinds_of, stored_types
from store.dataset.readers import find_files
from store.dataset.side_tables import IdPools, read_bridges, read_categories, read_items, read_users
from store.dataset.table_reader import TableReader
from store.delta.writer import open_delta
from store.errors import GenerationError, InputError, MissingGenerationError, translate_os_errors
from store.publishing.generation import GenerationWriter, current_name, open_generation
from store.publishing.kept import LOCK_FILE, remove_leftovers
from store.publishing.lock import FileLock
from store.records.layout import MAX_FIELDS
from store.taxonomy.numbering import build_taxonomy
from store.vocabulary import join_vocabularies, recode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from store.base.files import BaseTransaction
    from store.base.tables import FieldTable
    from store.building.options import BuildOptions, Progress
    from store.building.spill import SpillPart
    from store.dataset.bad_rows import BadRows
    from store.delta.layout import Tombstone
    from store.delta.transaction import DeltaTransaction
    from store.fields import FieldKinds
    from store.publishing.generation import OpenedGeneration
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import U64, NameKind

_NO_FILES = BehaviorFiles(pieces=(), types={}, odd=(), estimated_rows=0)
_TABLES = "tables"


def build(root: Path, options: BuildOptions, bad_rows: BadRows, progress: Progress) -> BuildReport:
    """Builds and publishes the next generation; nothing is published on any error.

    Args:
        root: Root of the store; made if need be.
        options: What to build.
        bad_rows: Takes refused rows.
        progress: Called at every step.

    Raises:
        LockedError: Another process builds, goes back or removes generations there.
        TooManyBadRowsError: More bad rows than allowed.
        InputError: A file is missing or unreadable, or the taxonomy is no tree.
        GenerationError: The current generation is damaged.
        StoreIOError: The disk is full, or not writable.
    """
    with translate_os_errors(f"{root}: cannot make the store"):
        root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / LOCK_FILE, "build a generation"):
        return _Build(root, options, bad_rows, progress).run()


class _Build:
    """One build, its state between the steps."""

    def __init__(self, root: Path, options: BuildOptions, bad_rows: BadRows, progress: Progress) -> None:
        self._root = root
        self._options = options
        self._bad_rows = bad_rows
        self._progress = progress
        self._started = time.monotonic()
        self._opened = _current(root, options)
        self._base = None if self._opened is None or options.replace else read_meta(self._opened)
        self._merged = 0 if self._opened is None else read_meta(self._opened).delta_sequence
        self._pools = IdPools()
        self._files = options.files or _NO_FILES

    def run(self) -> BuildReport:
        with open_delta(self._root).begin() as transaction:
            kinds = self._kinds(transaction)
            bits = partition_bits(
                self._files.estimated_rows + transaction.num_events + (self._base.num_behaviors if self._base else 0),
                self._options.memory_bytes // self._options.processes,
            )
            work = Work.for_input(self._root, self._files, kinds, bits)
            remove_leftovers(self._root, spare=frozenset({work.folder.name}))
            return self._build(transaction, work, kinds)

    def _build(self, transaction: DeltaTransaction, work: Work, kinds: FieldKinds) -> BuildReport:
        deleted = dict(transaction.deleted())
        with GenerationWriter(self._root, kind="store") as writer:
            self._progress("read tables", 0.0)
            taxonomy, items, users = self._tables(writer, transaction, deleted)
            self._progress("read tables", 1.0)
            if self._options.files is not None and not self._files.pieces:
                folder = self._options.tables[0]
                raise InputError(
                    f"{folder}: has no behaviors*.parquet, .csv or .csv.gz; docs/data.md says what they hold"
                )
            parts = spill_pieces(work, self._files, self._options, self._bad_rows, self._progress)
            for odd in (self._files.odd, *(part.odd for part, _ in parts)):
                self._pools.odd.add(odd)
            live = spill_delta(transaction, self._merged, work.folder / "live", work.bits, kinds)
            plan = self._plan(writer.path, work, taxonomy, [part for part, _ in parts], live, deleted, kinds)
            with BaseWriter(writer.path / "base") as base:
                counts = encode_partitions(base, plan, work, self._options.processes, self._progress)
                for kind in NAME_KINDS:
                    base.put_names(kind, self._names(kind, transaction, work, deleted))
            meta = meta_of(plan, counts, taxonomy, items, users, transaction.last_sequence)
            writer.meta.update(meta.model_dump(mode="json"))
            self._progress("publish", 0.0)
            name = writer.publish()
        removed, leftover = clean_up(self._root, work.folder, self._options.keep, deleted.values())
        self._progress("publish", 1.0)
        return BuildReport(
            generation=name,
            meta=meta,
            counts=counts,
            num_read=sum(part.num_rows for part, _ in parts),
            num_live=live.num_rows,
            num_resumed=sum(resumed for _, resumed in parts),
            bad_rows=tuple(self._bad_rows.rows),
            read_span=span_of([part for part, _ in parts]),
            warnings=tuple(
                warnings_of(self._options.tables, self._pools.odd, counts, self._root / "generations" / name / "base")
            ),
            removed=tuple(removed),
            leftover=leftover,
            duration_s=time.monotonic() - self._started,
        )

    def _kinds(self, transaction: DeltaTransaction) -> FieldKinds:
        base = stored_types(self._base.behavior_fields if self._base else (), "the store")
        kinds = kinds_of(join_types([base, stored_types(transaction.words().fields, "the delta"), self._files.types]))
        if len(kinds) > MAX_FIELDS:
            raise InputError(f"behaviors: {len(kinds)} side-info fields, a record has room for {MAX_FIELDS}")
        return kinds

    def _tables(
        self, writer: GenerationWriter, transaction: DeltaTransaction, deleted: dict[int, Tombstone]
    ) -> tuple[Taxonomy, FieldTable, FieldTable]:
        folders = list(self._options.tables)
        if self._opened is not None and self._base is not None:
            folders.append(self._opened.path / _TABLES)
        tables = TableReader(folders, self._bad_rows)
        categories = read_categories(tables, self._pools)
        bridges = read_bridges(tables, self._pools)
        items = read_items(tables, self._pools)
        gone = self._gone(transaction, deleted)
        users = read_users(tables, self._pools, gone)
        taxonomy = build_taxonomy(categories, bridges, items.rows)
        if self._opened is not None and self._base is not None and not self._options.shrink_tables:
            refuse_smaller(tables.kept, self._options.tables, self._opened.path / _TABLES, {*gone.tolist(), *deleted})
        with translate_os_errors(f"{writer.path}: cannot write"):
            tables.save(writer.path / _TABLES)
            taxonomy.save(writer.path / "taxonomy")
            items.fields.save(writer.path / "items")
            items.covers.save(writer.path / "covers")
            users.save(writer.path / "users")
        return taxonomy, items.fields, users

    def _gone(self, transaction: DeltaTransaction, deleted: dict[int, Tombstone]) -> U64:
        """Gives the users whose side-info must go, ascending.

        From the store's own table these are all who were deleted since it was built. A table that is given anew may
        know nothing of deletions: from it go all who were ever deleted and have not come back.
        """
        if not any(find_files(folder, "users") for folder in self._options.tables):
            return np.array(sorted(self._deleted_since(deleted)), np.uint64)
        gone = []
        with self._open_base() as base:
            for user, tombstone in sorted(deleted.items()):
                is_back = len(transaction.rows(user, after=max(self._merged, tombstone.sequence))) > 0
                if base is not None and tombstone.sequence <= self._merged:
                    is_back |= base.record(user) is not None
                if not is_back:
                    gone.append(user)
        return np.array(gone, np.uint64)

    def _open_base(self) -> AbstractContextManager[BaseTransaction | None]:
        if self._opened is None or self._base is None:
            return nullcontext()
        return BaseReader(self._opened.path / "base").begin()

    def _deleted_since(self, deleted: dict[int, Tombstone]) -> frozenset[int]:
        """Gives the users deleted since the old base was built."""
        return frozenset(user for user, tombstone in deleted.items() if tombstone.sequence > self._merged)

    def _plan(
        self,
        folder: Path,
        work: Work,
        taxonomy: Taxonomy,
        parts: list[SpillPart],
        live: SpillPart,
        deleted: dict[int, Tombstone],
        kinds: FieldKinds,
    ) -> Plan:
        known = [self._base.vocabulary] if self._base else []
        vocabulary = join_vocabularies([*known, *(used_words(part) for part in (*parts, live))])
        base = None
        if self._opened is not None and self._base is not None:
            base = BaseSource(
                folder=self._opened.path / "base",
                kinds=self._base.behavior_fields,
                recode=recode(self._base.vocabulary, vocabulary),
                left_out=self._deleted_since(deleted),
            )
        sources = [(work.part_folder(number), part, False) for number, part in enumerate(parts)]
        return Plan(
            bits=work.bits,
            kinds=kinds,
            vocabulary=vocabulary,
            taxonomy=folder / "taxonomy",
            tree_domains=taxonomy.tree_domains,
            widths=widths_of(kinds, vocabulary, self._base, (*parts, live)),
            retention=self._options.retention,
            base=base,
            parts=tuple(
                PartSource(folder=at, part=part, recode=recode(part.vocabulary, vocabulary), is_live=is_live)
                for at, part, is_live in (*sources, (work.folder / "live", live, True))
            ),
            deleted={user: tombstone.deleted_ms for user, tombstone in deleted.items()},
        )

    def _names(
        self, kind: NameKind, transaction: DeltaTransaction, work: Work, deleted: dict[int, Tombstone]
    ) -> Iterator[tuple[int, str]]:
        pool = self._pools.of(kind)
        shown = [sorted_names(pool.shown)]
        ids = [sorted_names(pool.names)] + [
            names
            for number in range(len(self._files.pieces))
            for names in spilled_names(work.part_folder(number), kind)
        ]
        live = sorted_names(dict(transaction.names(kind)))
        with self._open_base() as base:
            if base is not None:
                shown.append(base.names(kind))
            if kind == "user":
                # The base has names of users who came back before it was built; those deleted since are out.
                since = self._deleted_since(deleted)
                shown = [without(names, deleted if at == 0 else since) for at, names in enumerate(shown)]
                ids = [without(names, deleted) for names in ids]
            yield from merge_names(kind, shown, [*ids, live])


def _current(root: Path, options: BuildOptions) -> OpenedGeneration | None:
    try:
        name = current_name(root, "store")
    except MissingGenerationError:
        return None
    try:
        opened = open_generation(root, "store", name)
        read_meta(opened)
    except GenerationError:
        if options.replace:
            return None
        raise
    return opened
