"""Builds one partition of a base: everything known of its users, from the old base, the new events and the delta."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from store.base.files import BaseReader
from store.building.arrange import arrange
from store.building.spill import SpillReader
from store.events import STREAMS_PER_DOMAIN, EventRows, empty_rows
from store.fields import FieldKinds
from store.files.arrays import find_sorted
from store.records.base_rows import base_rows
from store.records.block_codec import encode_block
from store.taxonomy.resolve import NodeResolver
from store.taxonomy.taxonomy import Taxonomy

if TYPE_CHECKING:
    from pathlib import Path

    from store.building.retention import Retention
    from store.building.spill import SpillPart
    from store.building.widths import Widths
    from store.records.block_codec import EncodedBlock
    from store.records.rows import UserBlock
    from store.types import I64, Bool, Vocabulary
    from store.vocabulary import Recode


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSource:
    """The base that a build starts from."""

    folder: Path
    kinds: FieldKinds
    recode: Recode
    left_out: frozenset[int]
    """Users deleted since it was built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSource:
    """Spilled rows."""

    folder: Path
    part: SpillPart
    recode: Recode
    is_live: bool
    """Whether they come from the delta: a deleted user's live rows are those written after the deletion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What every partition needs. Can be sent to another process."""

    bits: int
    kinds: FieldKinds
    vocabulary: Vocabulary
    taxonomy: Path
    tree_domains: tuple[str, ...]
    widths: Widths
    retention: Retention
    base: BaseSource | None
    parts: tuple[PartSource, ...]
    """In the order of the input."""
    deleted: dict[int, int]
    """Time of each deletion by user, milliseconds UTC: spilled rows of other sources up to it are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a partition holds, and what was left out of it; they add up."""

    num_users: int = 0
    num_behaviors: int = 0
    num_duplicates: int = 0
    """Left out because an earlier one has their event id, or user, item, action and time."""
    num_expired: int = 0
    num_deleted: int = 0
    num_unmapped: int = 0
    by_stream: dict[int, int]
    first_ms: int | None = None
    last_ms: int | None = None
    largest_user: tuple[int, int] = (0, 0)
    """The most behaviors of a user, and whose they are."""

    def __add__(self, other: Counts) -> Counts:
        streams = self.by_stream.keys() | other.by_stream.keys()
        first = [value for value in (self.first_ms, other.first_ms) if value is not None]
        last = [value for value in (self.last_ms, other.last_ms) if value is not None]
        return Counts(
            num_users=self.num_users + other.num_users,
            num_behaviors=self.num_behaviors + other.num_behaviors,
            num_duplicates=self.num_duplicates + other.num_duplicates,
            num_expired=self.num_expired + other.num_expired,
            num_deleted=self.num_deleted + other.num_deleted,
            num_unmapped=self.num_unmapped + other.num_unmapped,
            by_stream={code: self.by_stream.get(code, 0) + other.by_stream.get(code, 0) for code in streams},
            first_ms=min(first, default=None),
            last_ms=max(last, default=None),
            largest_user=max(self.largest_user, other.largest_user),
        )


class PartitionBuilder:
    """Builds the partitions of one plan; not thread-safe."""

    def __init__(self, plan: Plan) -> None:
        """Opens what the plan names.

        Raises:
            CorruptGenerationError: The base or the taxonomy cannot be read.
        """
        self._plan = plan
        self._taxonomy = Taxonomy.load(plan.taxonomy, plan.tree_domains)
        self._resolver = NodeResolver(self._taxonomy, plan.vocabulary.domains)
        self._base = None if plan.base is None else BaseReader(plan.base.folder)
        self._parts = [(SpillReader(source.folder, source.part), source) for source in plan.parts]

    def build(self, partition: int) -> tuple[EncodedBlock, Counts]:
        """Gives the records of one partition.

        Raises:
            CorruptRecordError: A record of the base is damaged.
            StoreIOError: Spilled rows cannot be read.
        """
        sources = [empty_rows(self._plan.kinds)]
        if self._base is not None:
            sources.append(self._base_rows(self._base, partition))
        num_deleted = 0
        for reader, source in self._parts:
            for rows in reader.read(partition):
                coded = source.recode.apply(rows)
                gone = np.zeros(len(rows), np.bool_) if source.is_live else self._deleted(rows)
                num_deleted += int(np.count_nonzero(gone))
                sources.append(coded.take(~gone) if gone.any() else coded)
        arranged = arrange(EventRows.join(sources), self._resolver, self._plan.widths, self._plan.retention)
        counts = replace(
            _count(arranged.block, self._taxonomy.unmapped),
            num_duplicates=arranged.num_duplicates,
            num_expired=arranged.num_expired,
            num_deleted=num_deleted,
        )
        return encode_block(arranged.block), counts

    def _base_rows(self, base: BaseReader, partition: int) -> EventRows:
        source = self._plan.base
        assert source is not None
        first, end = key_range(partition, self._plan.bits)
        with base.begin() as transaction:
            rows = base_rows(transaction.records(first, end), source.kinds, self._plan.kinds, source.left_out)
        return source.recode.apply(rows)

    def _deleted(self, rows: EventRows) -> Bool:
        if not self._plan.deleted:
            return np.zeros(len(rows), np.bool_)
        users = np.array(sorted(self._plan.deleted), np.uint64)
        until = np.array([self._plan.deleted[user] for user in users.tolist()], np.int64)
        at, found = find_sorted(users, rows.user)
        return found & (rows.timestamp_ms <= until[at])


def key_range(partition: int, bits: int) -> tuple[bytes | None, bytes | None]:
    """Gives the first key of a partition and the first one behind it; None = no bound."""
    step = 1 << (64 - bits)
    last = (1 << bits) - 1
    first = None if partition == 0 else (partition * step).to_bytes(8, "big")
    return first, None if partition == last else ((partition + 1) * step).to_bytes(8, "big")


def _count(block: UserBlock, unmapped: int) -> Counts:
    streams, number = np.unique(block.stream, return_counts=True)
    times: I64 = block.timestamp_ms
    sizes = np.diff(block.bounds)
    largest = int(sizes.argmax()) if len(sizes) else -1
    return Counts(
        num_users=len(block.users),
        num_behaviors=len(times),
        num_unmapped=int(np.count_nonzero(block.node == unmapped)),
        by_stream=dict(zip(streams.tolist(), number.tolist(), strict=True)),
        first_ms=int(times.min()) if len(times) else None,
        last_ms=int(times.max()) if len(times) else None,
        largest_user=(int(sizes[largest]), int(block.users[largest])) if largest >= 0 else (0, 0),
    )


def by_domain(by_stream: dict[int, int], num_domains: int) -> tuple[int, ...]:
    """Gives the number of behaviors of each domain code."""
    out = [0] * num_domains
    for stream, number in by_stream.items():
        out[stream // STREAMS_PER_DOMAIN] += number
    return tuple(out)
