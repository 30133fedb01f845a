"""Answers one validated request from one pinned store generation and one index generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.faiss_soft import FaissKeySearch
from search_stage.hard import hard_search
from search_stage.levels import match_levels
from search_stage.merge import SoftMatches, merge
from search_stage.resolve import CandidateResolver
from search_stage.runs import NodeRuns
from search_stage.soft import KeyedRows, score_pairs, soft_search
from search_stage.statistics import match_statistics
from store.reading.retrieval import BehaviorColumns, Names, SearchResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from search_stage.config import SearchConfig
    from search_stage.generation import IndexGeneration
    from search_stage.levels import ResolvedCandidates
    from search_stage.merge import Merged
    from search_stage.soft import KeySearch
    from store.reading.behavior_store import Snapshot
    from store.reading.retrieval import Candidates, SearchRequest
    from store.types import F32, I32, I64, UserColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Everything a request needs beside the store snapshot; made once per pair of generations. Thread-safe."""

    resolver: CandidateResolver
    stream_of: Mapping[tuple[int, int], int]
    """Position of each (domain code, action code) among the generation's streams."""
    index: IndexGeneration | None
    key_search: KeySearch | None
    """None when there is no index."""

    @staticmethod
    def of(snapshot: Snapshot, index: IndexGeneration | None) -> Serving:
        """Prepares a pair of generations.

        Raises:
            IndexMismatchError: The index was built for another taxonomy.
            FaissMissingError: There is an index and no faiss.
        """
        if index is not None:
            index.check_store(snapshot)
        return Serving(
            resolver=CandidateResolver.of(snapshot),
            stream_of={stream: at for at, stream in enumerate(snapshot.meta.streams)},
            index=index,
            key_search=FaissKeySearch(index.dim) if index is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vectors:
    """The attention vectors of a request, equal ones once."""

    queries: F32
    """(Q, d)"""
    query: I64
    """Query of each candidate. (C,)"""
    keys: F32
    """(K, d)"""
    rows: KeyedRows


def retrieve(
    snapshot: Snapshot,
    serving: Serving,
    config: SearchConfig,
    request: SearchRequest,
    check_time: Callable[[], None],
) -> SearchResult:
    """Answers one request. Changes nothing; all arrays of the result are copies.

    Args:
        snapshot: The pinned store generation.
        serving: What was prepared for it.
        config: Limits and policies.
        request: A request that `validate.check_request` passed.
        check_time: Called between the steps; raises when the time is spent.
    """
    history = snapshot.columns(request.user).before(request.as_of_ms)
    levels = 1 + max(config.hard.deepest_level, config.statistics.levels - 1, 1)
    resolved = serving.resolver.resolve(request.candidates, levels)
    runs = NodeRuns.of(history)
    matches = match_levels(resolved, runs, snapshot.taxonomy)
    check_time()
    policies = [config.hard.policy(snapshot.vocabulary.domains[code]) for code in runs.domains]
    hard = hard_search(matches, policies, request.top_k.hard)
    check_time()
    vectors = _gather_vectors(serving.index, resolved, runs) if serving.index is not None else None
    soft = _soft(serving, vectors, _lower(config.soft.top_k, request.top_k.soft))
    check_time()
    num_recent = _lower(config.recent.top_k, request.top_k.recent)
    merged = merge(hard, soft, history.num_behaviors, num_recent, len(request.candidates))
    behaviors, index = _union(merged, history, snapshot)
    # A stream that is new in the delta has no place in the statistics before the next generation.
    section_streams = [serving.stream_of.get((section.domain, section.action), -1) for section in history.sections]
    return SearchResult(
        behaviors=behaviors,
        vocabulary=snapshot.vocabulary,
        offsets=np.searchsorted(merged.candidate, np.arange(len(resolved) + 1)),
        index=index,
        score=_scores(vectors, merged),
        match_level=merged.level,
        source=merged.source,
        statistics=match_statistics(
            matches,
            snapshot.streams,
            np.array(section_streams, np.int64),
            request.as_of_ms,
            config.statistics.levels,
        ),
        candidate_category=snapshot.taxonomy.category_of(resolved.ancestors[:, 1]),
        candidate_fields=snapshot.items.lookup(request.candidates.item),
        user_fields=snapshot.user_fields(request.user),
        num_behaviors=history.num_behaviors,
        store_generation=snapshot.generation,
        index_generation=serving.index.name if serving.index is not None else "",
        names=_names(behaviors, request.candidates, snapshot) if request.with_names else None,
    )


def _lower(configured: int, requested: int | None) -> int:
    """Gives the number that holds: a request may lower the server's, never raise it."""
    return configured if requested is None else min(configured, requested)


def _gather_vectors(index: IndexGeneration, candidates: ResolvedCandidates, runs: NodeRuns) -> _Vectors:
    unmapped = len(index.table) - 1
    # An unknown item is searched by its category's vector, an unknown category by zeros: the newest behaviors win.
    node = np.where(candidates.item_node < unmapped, candidates.item_node, candidates.ancestors[:, 1])
    query_node, query = np.unique(index.representative[node], return_inverse=True)
    rows = KeyedRows.of(runs, index.representative)
    queries, keys = index.table.take(query_node, axis=0), index.table.take(rows.node, axis=0)
    return _Vectors(queries=queries, query=query, keys=keys, rows=rows)


def _soft(serving: Serving, vectors: _Vectors | None, top_k: int) -> SoftMatches | None:
    if vectors is None or serving.key_search is None or top_k == 0 or not len(vectors.keys):
        return None
    num_queries, num_rows = len(vectors.queries), len(vectors.rows.rank)
    if num_rows <= top_k:
        start = np.arange(num_queries + 1) * num_rows
        return SoftMatches(query=vectors.query, start=start, rank=np.tile(np.arange(num_rows), num_queries))
    shortlist = serving.key_search.shortlist(vectors.queries, vectors.keys, top_k)
    start, rank = soft_search(shortlist, vectors.rows, num_queries, top_k)
    return SoftMatches(query=vectors.query, start=start, rank=rank)


def _union(merged: Merged, history: UserColumns, snapshot: Snapshot) -> tuple[BehaviorColumns, I32]:
    """Gives the behaviors of all lists, each once, oldest first, and the lists as positions in them."""
    used = np.zeros(history.num_behaviors, np.bool_)
    used[merged.rank] = True
    rows = history.order[used].astype(np.int64)
    domain, action = history.domain_and_action(rows) if len(rows) else (np.empty(0, np.uint8), np.empty(0, np.uint8))
    behaviors = BehaviorColumns(
        item=history.item[rows].astype(np.uint64),
        category=snapshot.taxonomy.category_of(history.node[rows]),
        timestamp_ms=history.timestamp_ms[rows],
        domain=domain,
        action=action,
        scene=history.scene[rows].astype(np.uint16),
    )
    position: I64 = np.cumsum(used) - 1
    return behaviors, position[merged.rank].astype(np.int32)


def _scores(vectors: _Vectors | None, merged: Merged) -> F32:
    if vectors is None:
        return np.zeros(len(merged.rank), np.float32)
    query, key = vectors.query[merged.candidate], vectors.rows.of_rank[merged.rank]
    return score_pairs(vectors.queries, vectors.keys, query, key)


def _names(behaviors: BehaviorColumns, candidates: Candidates, snapshot: Snapshot) -> Names:
    return Names(
        behavior_items=tuple(snapshot.name_of("item", int(item)) for item in behaviors.item),
        behavior_categories=tuple(snapshot.name_of("category", int(category)) for category in behaviors.category),
        candidates=tuple(snapshot.name_of("item", int(item)) for item in candidates.item),
    )
