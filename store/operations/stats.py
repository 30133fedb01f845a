"""What a store holds and what it costs, in numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.behavior_store import BehaviorStore
from store.delta.layout import DELTA_FOLDER, LOCK_FILE
from store.events import STREAMS_PER_DOMAIN
from store.fields import VALUE_TYPES, type_of
from store.publishing.folder import size_of
from store.publishing.kept import kept_generations
from store.publishing.lock import lock_holder
from store.reading.scan import scan, user_bounds
from store.taxonomy.resolve import NodeResolver
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from store.events import EventRows
    from store.reading.snapshot import Snapshot
    from store.types import I64, U64

_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How many behaviors a user has; 0 where there is no user."""

    p50: int
    p90: int
    p99: int
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainStats:
    """One domain."""

    domain: str
    num_behaviors: int
    num_users: int
    """Users with at least one behavior of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmappedCategory:
    """A category as events give it that leads to no node, while their items are not known either."""

    domain: str
    category: str
    """Its name; empty = the events have none."""
    num_behaviors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaStats:
    """The live events."""

    num_events: int
    """All that the delta holds, merged ones too that an older generation still needs."""
    num_unmerged: int
    """Those behind the generation: what a rebuild would merge."""
    num_users: int
    """Users with unmerged ones."""
    last_sequence: int
    num_tombstones: int
    oldest_ms: int | None
    """Time of the oldest unmerged event, milliseconds UTC; None = there is none."""
    age_ms: int | None
    """How old that is now."""
    writer: str
    """Who appends at this moment; empty = no process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """A store."""

    generation: str
    num_users: int
    num_behaviors: int
    lengths: Lengths
    domains: tuple[DomainStats, ...]
    streams: tuple[str, ...]
    """As `domain/action`."""
    first_ms: int
    """Time of the oldest behavior, milliseconds UTC; 0 when there is none."""
    last_ms: int
    num_unmapped: int
    """Behaviors with neither a known item nor a category that leads to a node."""
    unmapped: tuple[UnmappedCategory, ...]
    """Their categories, the most frequent first."""
    num_categories: int
    num_items: int
    num_covers: int
    """Ads that cover products."""
    behavior_fields: Mapping[str, str]
    """What each holds: ids, numbers, or lists of ids."""
    item_fields: Mapping[str, str]
    user_fields: Mapping[str, str]
    delta: DeltaStats | None
    """None = nothing was ever appended."""
    disk_bytes: Mapping[str, int]
    """By part: what the generation is made of, the delta, and the other generations together."""
    generations: tuple[str, ...]
    """Those kept, oldest first."""


def stats(
    root: Path, *, now_ms: int | None = None, progress: Callable[[float], None] = lambda done: None
) -> StoreStats:
    """Gives the numbers of a store as it is now; reads every event once.

    Args:
        root: The store.
        now_ms: The time to count ages from, milliseconds UTC; None = the clock's.
        progress: Called with the part that is done, 0 to 1.

    Raises:
        GenerationError: It cannot be opened.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    with BehaviorStore.open(root) as opened, opened.snapshot() as snapshot:
        counter = _Counter(snapshot)
        total = max(snapshot.meta.num_behaviors, 1)
        for rows in scan(snapshot):
            counter.add(rows)
            progress(min(counter.num_rows / total, 1.0))
        return _report(root, snapshot, counter, now_ms)


def _report(root: Path, snapshot: Snapshot, counter: _Counter, now_ms: int) -> StoreStats:
    meta = snapshot.meta
    return StoreStats(
        generation=snapshot.generation,
        num_users=len(counter.lengths()),
        num_behaviors=counter.num_rows,
        lengths=_percentiles(counter.lengths()),
        domains=counter.domains(),
        streams=counter.streams(),
        first_ms=counter.first_ms if counter.num_rows else 0,
        last_ms=counter.last_ms if counter.num_rows else 0,
        num_unmapped=sum(counter.unmapped.values()),
        unmapped=counter.unmapped_categories(),
        num_categories=meta.num_categories,
        num_items=meta.num_items,
        num_covers=len(snapshot.covers.ids),
        behavior_fields={name: VALUE_TYPES[kind].holds for name, kind in meta.behavior_fields},
        item_fields={name: type_of(column).holds for name, column in snapshot.items.fields.items()},
        user_fields={name: type_of(column).holds for name, column in snapshot.users.fields.items()},
        delta=_delta_stats(root, snapshot, now_ms),
        disk_bytes=_disk(root, snapshot.path),
        generations=tuple(kept_generations(root)),
    )


class _Counter:
    """Counts events block by block."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._resolver = NodeResolver(snapshot.taxonomy, snapshot.vocabulary.domains)
        self._lengths: list[I64] = []
        self._users_of_domain = np.zeros(STREAMS_PER_DOMAIN, np.int64)
        self.by_stream = np.zeros(STREAMS_PER_DOMAIN * STREAMS_PER_DOMAIN, np.int64)
        self.unmapped: dict[tuple[int, int], int] = {}
        """Behaviors by (domain code, category)."""
        self.num_rows = 0
        self.first_ms = 2**63 - 1
        self.last_ms = 0

    def add(self, rows: EventRows) -> None:
        """Counts some users' events, all of each."""
        lengths = np.diff(user_bounds(rows))
        self._lengths.append(lengths)
        self.num_rows += len(rows)
        self.by_stream += np.bincount(rows.stream, minlength=len(self.by_stream))
        domain = rows.stream // STREAMS_PER_DOMAIN
        owner = np.repeat(np.arange(len(lengths)), lengths)
        pairs = np.unique(owner * STREAMS_PER_DOMAIN + domain)
        self._users_of_domain += np.bincount(pairs % STREAMS_PER_DOMAIN, minlength=STREAMS_PER_DOMAIN)
        self.first_ms = min(self.first_ms, int(rows.timestamp_ms.min()))
        self.last_ms = max(self.last_ms, int(rows.timestamp_ms.max()))
        node = self._resolver.nodes(rows.item, rows.category, rows.stream)
        lost = np.flatnonzero(node == self._snapshot.taxonomy.unmapped)
        for code in np.unique(domain[lost]).tolist():
            self._count_unmapped(code, rows.category[lost[domain[lost] == code]])

    def _count_unmapped(self, domain: int, categories: U64) -> None:
        ids, counts = np.unique(categories, return_counts=True)
        for category, count in zip(ids.tolist(), counts.tolist(), strict=True):
            self.unmapped[domain, category] = self.unmapped.get((domain, category), 0) + count

    def lengths(self) -> I64:
        """Gives the number of behaviors of every user."""
        return np.concatenate([np.empty(0, np.int64), *self._lengths])

    def streams(self) -> tuple[str, ...]:
        """Gives the streams that have behaviors, `domain/action`, ascending."""
        words = self._snapshot.vocabulary
        found = [divmod(stream, STREAMS_PER_DOMAIN) for stream in np.flatnonzero(self.by_stream).tolist()]
        return tuple(sorted(f"{words.domains[domain]}/{words.actions[action]}" for domain, action in found))

    def domains(self) -> tuple[DomainStats, ...]:
        """Gives the domains, by name."""
        behaviors = self.by_stream.reshape(STREAMS_PER_DOMAIN, STREAMS_PER_DOMAIN).sum(axis=1).tolist()
        users = self._users_of_domain.tolist()
        found = [
            DomainStats(domain=word, num_behaviors=behaviors[code], num_users=users[code])
            for code, word in enumerate(self._snapshot.vocabulary.domains)
            if behaviors[code]
        ]
        return tuple(sorted(found, key=lambda stats: stats.domain))

    def unmapped_categories(self) -> tuple[UnmappedCategory, ...]:
        """Gives the categories that lead nowhere, the most frequent first."""
        domains = self._snapshot.vocabulary.domains
        found = [
            UnmappedCategory(
                domain=domains[domain],
                category="" if category == NO_ID else self._snapshot.name_of("category", category),
                num_behaviors=count,
            )
            for (domain, category), count in self.unmapped.items()
        ]
        return tuple(sorted(found, key=lambda one: (-one.num_behaviors, one.domain, one.category)))


def _percentiles(lengths: I64) -> Lengths:
    if not len(lengths):
        return Lengths(p50=0, p90=0, p99=0, max=0)
    # A length that some user has, not one between two.
    p50, p90, p99 = np.percentile(lengths, _PERCENTILES, method="inverted_cdf").astype(np.int64).tolist()
    return Lengths(p50=p50, p90=p90, p99=p99, max=int(lengths.max()))


def _delta_stats(root: Path, snapshot: Snapshot, now_ms: int) -> DeltaStats | None:
    delta = snapshot.delta
    if delta is None:
        return None
    num_unmerged = num_users = 0
    oldest_ms: int | None = None
    for _, rows in delta.scan(None, None, snapshot.meta.delta_sequence):
        num_unmerged += len(rows)
        num_users += 1
        oldest = int(rows.timestamp_ms.min())
        oldest_ms = oldest if oldest_ms is None else min(oldest_ms, oldest)
    holder = lock_holder(root / DELTA_FOLDER / LOCK_FILE)
    return DeltaStats(
        num_events=delta.num_events,
        num_unmerged=num_unmerged,
        num_users=num_users,
        last_sequence=delta.last_sequence,
        num_tombstones=delta.num_tombstones,
        oldest_ms=oldest_ms,
        age_ms=None if oldest_ms is None else now_ms - oldest_ms,
        writer="" if holder is None else str(holder),
    )


def _disk(root: Path, generation: Path) -> dict[str, int]:
    parts = {path.name: size_of(path) for path in sorted(generation.iterdir()) if path.is_dir()}
    others = sum(size_of(path) for path in (root / "generations").iterdir() if path != generation)
    return {**parts, "delta": size_of(root / DELTA_FOLDER), "other generations": others}
