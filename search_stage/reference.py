"""The plain twin of the whole search: loops over behaviors, no pre-order, no sharing between candidates.

It is the definition of a correct answer that tests hold the searcher to, for whatever store, index and request. It
reads the taxonomy through `parent` alone. Cost: far too much for anything but tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.reference_statistics import reference_statistics
from search_stage.soft.base import score_pairs
from search_stage.validate import lower
from store.retrieval import (
    NO_LEVEL,
    SOURCE_HARD,
    SOURCE_RECENT,
    SOURCE_SOFT,
    WHOLE_HISTORY,
    BehaviorColumns,
    SearchResult,
)
from store.types import DAY_MS, NO_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_stage.config import SearchConfig, SoftConfig
    from search_stage.index.generation import IndexGeneration
    from store.reading.snapshot import Snapshot
    from store.retrieval import SearchRequest
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import I32, I64, U64, Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One behavior."""

    rank: int
    """Position in time order, ties by event order."""
    node: int
    timestamp_ms: int
    item: int
    domain: int
    action: int
    scene: int
    path: tuple[int, ...]
    """Its node and all nodes above; empty = unmapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One candidate, resolved."""

    own: frozenset[int]
    """Nodes of level 0."""
    chains: tuple[tuple[int, ...], ...]
    """Each of its categories and what is above, bottom up; the main category's first."""
    main: int
    """Node of its category; `Taxonomy.unmapped` = none is known."""
    query_node: int
    """Whose attention vector is the query."""

    def level_of(self, row: Row) -> int:
        """Gives the smallest level whose set holds the row; `NO_LEVEL` = none."""
        if row.node in self.own:
            return 0
        for level in range(1, 1 + max((len(chain) for chain in self.chains), default=0)):
            if self.holds(row, level):
                return level
        return NO_LEVEL

    def holds(self, row: Row, level: int) -> bool:
        """Says whether the set of one level holds the row."""
        if level == 0:
            return row.node in self.own
        return any(level <= len(chain) and chain[level - 1] in row.path for chain in self.chains)


def reference_search(
    snapshot: Snapshot, index: IndexGeneration | None, config: SearchConfig, request: SearchRequest
) -> SearchResult:
    """Answers a valid request; without names."""
    rows = reference_rows(snapshot, request.user, request.as_of_ms)
    candidates = reference_candidates(snapshot, request)
    lists: list[dict[int, list[int]]] = []  # per candidate: rank -> [source bits, match level]
    for candidate in candidates:
        found: dict[int, list[int]] = {}
        for row in reference_hard(rows, candidate, config, snapshot.vocabulary, request.as_of_ms, request.top_k.hard):
            found[row.rank] = [SOURCE_HARD, candidate.level_of(row)]
        if index is not None:
            top_k = lower(config.soft.top_k, request.top_k.soft)
            for row in reference_soft(rows, candidate, index, config.soft, request.as_of_ms, top_k):
                found.setdefault(row.rank, [0, NO_LEVEL])[0] |= SOURCE_SOFT
        num_recent = lower(config.recent.top_k, request.top_k.recent)
        for row in rows[max(len(rows) - num_recent, 0) :]:
            found.setdefault(row.rank, [0, NO_LEVEL])[0] |= SOURCE_RECENT
        lists.append(dict(sorted(found.items())))
    return _assemble(snapshot, index, config, request, rows, candidates, lists)


def reference_rows(snapshot: Snapshot, user: int, as_of_ms: int) -> list[Row]:
    """Gives a user's behaviors before a time, oldest first."""
    columns = snapshot.user(user).columns
    taxonomy = snapshot.taxonomy
    rows = [
        Row(
            rank=int(columns.rank[at]),
            node=int(columns.node[at]),
            timestamp_ms=int(columns.timestamp_ms[at]),
            item=int(columns.item[at]),
            domain=section.domain,
            action=section.action,
            scene=int(columns.scene[at]),
            path=_path(taxonomy, int(columns.node[at])),
        )
        for section in columns.sections
        for at in range(section.start, section.stop)
    ]
    return sorted((row for row in rows if row.timestamp_ms < as_of_ms), key=lambda row: row.rank)


def reference_candidates(snapshot: Snapshot, request: SearchRequest) -> list[Candidate]:
    """Resolves the candidates of a request."""
    taxonomy, covers = snapshot.taxonomy, snapshot.covers
    items = {int(taxonomy.id[node]): node for node in range(taxonomy.num_nodes) if taxonomy.is_item[node]}
    categories = {int(taxonomy.id[node]): node for node in range(taxonomy.num_nodes) if not taxonomy.is_item[node]}
    stored = {int(item): _list(covers.values, covers.offsets, at) for at, item in enumerate(covers.ids)}
    out = []
    for at in range(len(request.candidates)):
        item, category = int(request.candidates.item[at]), int(request.candidates.category[at])
        given = _list(request.candidates.covers, request.candidates.covers_offsets, at)
        own = {items[i] for i in (item, *(given or stored.get(item, []))) if i in items}
        if category == NO_ID:
            main = _path(taxonomy, items[item])[1:] if item in items else ()
        else:
            main = _path(taxonomy, categories[category]) if category in categories else ()
        more = _list(request.candidates.more_categories, request.candidates.more_offsets, at)
        chains = (main, *(_path(taxonomy, categories[c]) for c in more if c in categories))
        out.append(
            Candidate(
                own=frozenset(own),
                chains=chains,
                main=main[0] if main else taxonomy.unmapped,
                query_node=items.get(item, main[0] if main else taxonomy.unmapped),
            )
        )
    return out


def reference_hard(
    rows: Sequence[Row],
    candidate: Candidate,
    config: SearchConfig,
    names: Vocabulary,
    as_of_ms: int,
    cap: int | None,
) -> list[Row]:
    """Hierarchical hard search for one candidate, as `hard.py` defines it."""
    found = []
    for domain in sorted({row.domain for row in rows}):
        policy = config.hard.policy(names.domains[domain])
        mine = [row for row in rows if row.domain == domain]
        if policy.actions is not None:
            mine = [row for row in mine if names.actions[row.action] in policy.actions]
        if policy.scenes is not None:
            mine = [row for row in mine if names.scenes[row.scene] in policy.scenes]
        if policy.max_age_days is not None:
            mine = [row for row in mine if row.timestamp_ms >= as_of_ms - int(policy.max_age_days * DAY_MS)]
        matched = mine
        for stop in range(policy.max_level + 1):
            matched = [row for row in mine if candidate.level_of(row) <= stop]
            if len(matched) >= policy.min_matches:
                break
        found += sorted(matched, key=lambda row: (candidate.level_of(row), -row.rank))[: policy.quota]
    found.sort(key=lambda row: (candidate.level_of(row), -row.rank))
    return found[:cap]


def reference_soft(
    rows: Sequence[Row], candidate: Candidate, index: IndexGeneration, config: SoftConfig, as_of_ms: int, top_k: int
) -> list[Row]:
    """Soft search for one candidate: the best by score and time term, of equal ones by score, of these the newest."""

    def order(row: Row) -> tuple[float, float, int]:
        score, age_ms = np.float32(reference_score(candidate, row, index)), as_of_ms - row.timestamp_ms
        fitting = [bonus.add for bonus in config.time_term if age_ms <= int(bonus.max_age_days * DAY_MS)]
        return -float(score + np.float32(fitting[0] if fitting else 0)), -float(score), -row.rank

    return sorted(rows, key=order)[:top_k]


def reference_score(candidate: Candidate, row: Row, index: IndexGeneration) -> float:
    """The inner product of two attention vectors, as `soft.score_pairs` defines it."""
    return float(score_pairs(index.take(np.array([candidate.query_node])), index.take(np.array([row.node])))[0])


def _assemble(
    snapshot: Snapshot,
    index: IndexGeneration | None,
    config: SearchConfig,
    request: SearchRequest,
    rows: Sequence[Row],
    candidates: Sequence[Candidate],
    lists: Sequence[dict[int, list[int]]],
) -> SearchResult:
    whole = request.newest == WHOLE_HISTORY
    num_newest = len(rows) if whole else min(request.newest, config.limits.max_newest, len(rows))
    union = sorted({rank for found in lists for rank in found} | set(range(len(rows) - num_newest, len(rows))))
    used = [rows[rank] for rank in union]
    items = set(np.flatnonzero(snapshot.taxonomy.is_item).tolist())
    listed = [(candidate, rank) for candidate, found in zip(candidates, lists, strict=True) for rank in found]
    sources_and_levels = [pair for found in lists for pair in found.values()]
    scores = [reference_score(candidate, rows[rank], index) if index else 0.0 for candidate, rank in listed]
    user = snapshot.user(request.user)
    fields = dict(zip((name for name, _ in snapshot.meta.behavior_fields), user.events().fields, strict=True))
    return SearchResult(
        behaviors=BehaviorColumns(
            item=np.array([row.item for row in used], np.uint64),
            category=np.array([_category(snapshot.taxonomy, row.path) for row in used], np.uint64),
            timestamp_ms=np.array([row.timestamp_ms for row in used], np.int64),
            domain=np.array([row.domain for row in used], np.uint8),
            action=np.array([row.action for row in used], np.uint8),
            scene=np.array([row.scene for row in used], np.uint16),
        ),
        vocabulary=snapshot.vocabulary,
        offsets=np.cumsum([0, *(len(found) for found in lists)], dtype=np.int64),
        index=np.array([union.index(rank) for _, rank in listed], np.int32),
        score=np.array(scores, np.float32),
        match_level=np.array([level for _, level in sources_and_levels], np.uint8),
        source=np.array([source for source, _ in sources_and_levels], np.uint8),
        same_as=_same_as(lists, scores),
        statistics=reference_statistics(rows, candidates, snapshot, index, request.as_of_ms, config.statistics),
        candidate_category=np.array(
            [int(snapshot.taxonomy.id[c.main]) if c.main < snapshot.taxonomy.unmapped else NO_ID for c in candidates],
            np.uint64,
        ),
        candidate_fields=snapshot.items.lookup(request.candidates.item),
        user_fields=user.fields,
        num_newest=num_newest,
        num_behaviors=len(rows),
        num_unknown_items=sum(c.query_node not in items for c in candidates),
        store_generation=snapshot.generation,
        index_generation=index.name if index is not None else "",
        index_model=index.model if index is not None else "",
        delta_sequence=snapshot.delta_sequence,
        configuration=config.configuration,
        behavior_fields={name: fields[name][np.array(union, np.int64)] for name in request.behavior_fields},
    )


def _same_as(lists: Sequence[dict[int, list[int]]], scores: Sequence[float]) -> I32:
    left = iter(scores)
    seen = [[(rank, *pair, next(left)) for rank, pair in found.items()] for found in lists]
    return np.array([seen.index(entries) for entries in seen], np.int32)


def _path(taxonomy: Taxonomy, node: int) -> tuple[int, ...]:
    path = []
    while 0 <= node < taxonomy.num_nodes:
        path.append(node)
        node = int(taxonomy.parent[node])
    return tuple(path)


def _category(taxonomy: Taxonomy, path: tuple[int, ...]) -> int:
    for node in path:
        if not taxonomy.is_item[node]:
            return int(taxonomy.id[node])
    return NO_ID


def _list(values: U64, offsets: I64, at: int) -> list[int]:
    listed: list[int] = values[int(offsets[at]) : int(offsets[at + 1])].tolist() if len(offsets) else []
    return listed
