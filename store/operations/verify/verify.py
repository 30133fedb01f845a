"""Audits a published generation and the delta behind it: every hash, every record, every number of the taxonomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.behavior_store import BehaviorStore
from store.dataset.bad_rows import BadRows
from store.dataset.side_tables import IdPools, read_bridges, read_categories, read_items
from store.dataset.table_reader import TableReader
from store.errors import CorruptGenerationError, CorruptRecordError, InputError
from store.events import STREAMS_PER_DOMAIN
from store.operations.digest import digest
from store.operations.verify.block import BlockAudit
from store.operations.verify.delta import DeltaAudit, audit_delta
from store.operations.verify.records import find_taxonomy_problem
from store.taxonomy.numbering import build_taxonomy
from store.taxonomy.resolve import NodeResolver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from store.reading.snapshot import Snapshot
    from store.taxonomy.taxonomy import Taxonomy

_BLOCK_BYTES = 1 << 22
_ADVICE = "run `lookback-store rollback`, or `lookback-store ingest --replace` with the dataset"


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeCoverage:
    """How much of a domain's own tree leads to the ads' tree."""

    domain: str
    num_categories: int
    num_bridged: int
    """With a bridge of their own or an ancestor's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was audited; a damaged store raises instead."""

    generation: str
    num_users: int
    """Users with at least one behavior, in base or delta."""
    num_behaviors: int
    """In base and delta, each once."""
    num_unmapped: int
    """Behaviors of the base that lead to no node."""
    coverage: tuple[BridgeCoverage, ...]
    """Of every domain with a tree of its own."""
    delta: DeltaAudit | None
    """None = nothing was ever appended."""
    digest: str
    """Of the whole content, see `digest`."""


def verify(
    root: Path, generation: str | None = None, *, progress: Callable[[float], None] = lambda done: None
) -> VerifyReport:
    """Reads everything of a generation and of the delta and checks it, then digests what they say together.

    Checked are: size and hash of every file; the taxonomy, also against its own tables; each user's record: checksum,
    order, codes, and that item and category lead to the node it has; the counts of the manifest; every row of the delta
    and that its index of duplicates fits.

    Args:
        root: Root of the store.
        generation: Its name; None = the current one.
        progress: Called with the part that is done, 0 to 1.

    Raises:
        GenerationError: The first damage found; the message names the file, and the user if it is in a record.
    """
    with BehaviorStore.open(root, generation) as store, store.snapshot() as snapshot:
        _check_taxonomy(snapshot)
        _check_base(snapshot, lambda done: progress(done / 2))
        delta = audit_delta(root, snapshot.meta.delta_sequence)
        text, num_users, num_behaviors = digest(snapshot, lambda done: progress(0.5 + done / 2))
        return VerifyReport(
            generation=snapshot.generation,
            num_users=num_users,
            num_behaviors=num_behaviors,
            num_unmapped=snapshot.meta.num_unmapped,
            coverage=_coverage(snapshot.taxonomy),
            delta=delta,
            digest=text,
        )


def _check_taxonomy(snapshot: Snapshot) -> None:
    taxonomy, meta = snapshot.taxonomy, snapshot.meta
    problem = find_taxonomy_problem(taxonomy)
    if not problem and taxonomy.fingerprint() != meta.taxonomy_fingerprint:
        problem = "it does not match the fingerprint in the manifest"
    counts = (len(taxonomy.category_ids), len(taxonomy.item_ids))
    if not problem and counts != (meta.num_categories, meta.num_items):
        problem = f"{counts} categories and items, the manifest says {(meta.num_categories, meta.num_items)}"
    if not problem and _of_tables(snapshot).fingerprint() != meta.taxonomy_fingerprint:
        problem = "the tables that are kept with it make another one"
    if problem:
        raise CorruptGenerationError(f"{snapshot.path}: taxonomy: {problem}; {_ADVICE}")


def _of_tables(snapshot: Snapshot) -> Taxonomy:
    pools, tables = IdPools(), TableReader([snapshot.path / "tables"], BadRows(0))
    try:
        categories, bridges = read_categories(tables, pools), read_bridges(tables, pools)
        return build_taxonomy(categories, bridges, read_items(tables, pools).rows)
    except InputError as exc:
        raise CorruptGenerationError(f"{snapshot.path}: tables: {exc}; {_ADVICE}") from exc


def _check_base(snapshot: Snapshot, progress: Callable[[float], None]) -> None:
    meta = snapshot.meta
    resolver = NodeResolver(snapshot.taxonomy, meta.domains)
    audit = BlockAudit(meta, snapshot.taxonomy, resolver)
    users: list[int] = []
    records: list[memoryview] = []
    num_users = pending = 0
    for user, record in snapshot.base.records(None, None):
        users.append(user)
        records.append(record)
        num_users += 1
        pending += len(record)
        if pending >= _BLOCK_BYTES:
            _check_records(snapshot, audit, users, records)
            progress(min(audit.num_rows / max(meta.num_behaviors, 1), 1.0))
            users, records, pending = [], [], 0
    _check_records(snapshot, audit, users, records)
    _check_counts(snapshot, audit, num_users)


def _check_records(snapshot: Snapshot, audit: BlockAudit, users: list[int], records: list[memoryview]) -> None:
    found = audit.find_problem(records) if records else None
    if found:
        at, problem = found
        raise CorruptRecordError(f"{snapshot.path}: user {users[at]}: {problem}; {_ADVICE}")


def _check_counts(snapshot: Snapshot, audit: BlockAudit, num_users: int) -> None:
    meta = snapshot.meta
    domains = audit.by_stream.reshape(STREAMS_PER_DOMAIN, STREAMS_PER_DOMAIN).sum(axis=1)[: len(meta.domains)]
    streams = [divmod(stream, STREAMS_PER_DOMAIN) for stream in np.flatnonzero(audit.by_stream).tolist()]
    first_ms = audit.first_ms if audit.num_rows else 0
    facts = (
        ("users", num_users, meta.num_users),
        ("behaviors", audit.num_rows, meta.num_behaviors),
        ("behaviors by domain", tuple(domains.tolist()), meta.num_by_domain),
        ("unmapped behaviors", audit.num_unmapped, meta.num_unmapped),
        ("streams", tuple(streams), meta.streams),
        ("time of the oldest behavior", first_ms, meta.first_ms),
        ("time of the newest behavior", audit.last_ms, meta.last_ms),
    )
    for name, found, expected in facts:
        if found != expected:
            raise CorruptGenerationError(f"{snapshot.path}: {name}: {found}, the manifest says {expected}; {_ADVICE}")


def _coverage(taxonomy: Taxonomy) -> tuple[BridgeCoverage, ...]:
    out = []
    for at, domain in enumerate(taxonomy.tree_domains):
        nodes = taxonomy.domain_category_nodes[taxonomy.domain_offsets[at] : taxonomy.domain_offsets[at + 1]]
        bridged = int(np.count_nonzero(nodes != taxonomy.unmapped))
        out.append(BridgeCoverage(domain=domain, num_categories=len(nodes), num_bridged=bridged))
    return tuple(out)
