"""Answers one validated request from one pinned store generation and one index generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.hard.hard import HardPolicies, hard_search
from search_stage.hard.levels import match_levels
from search_stage.history import History
from search_stage.kernels.distinct import number_distinct
from search_stage.merge import SoftMatches, describe_rows, first_equal, merge, number_used, spread_lists
from search_stage.profiles import similarities
from search_stage.resolve import CandidateResolver, rows_of
from search_stage.resolve_kernels import ids_of
from search_stage.soft.base import Keys, soft_search
from search_stage.soft.clusters import key_search_of
from search_stage.soft.score_kernels import score_listed
from search_stage.soft.time_term import bands_of, search_bands
from search_stage.statistics import match_statistics
from search_stage.validate import check_answer_size, lower
from serving.call import lap
from store.compiled import read_only
from store.fields import ID, ValueColumn, value_type_of
from store.retrieval import WHOLE_HISTORY, BehaviorColumns, Candidates, Names, SearchRequest, SearchResult
from store.types import Section, UserColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from search_stage.config import SearchConfig
    from search_stage.index.generation import IndexGeneration
    from search_stage.merge import Merged
    from search_stage.resolve import ResolvedCandidates
    from search_stage.soft.base import KeySearch
    from search_stage.soft.time_term import Band
    from store.reading.snapshot import Snapshot
    from store.reading.user_view import UserView
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import F32, I32, I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Everything a request needs beside the store snapshot; made once per pair of generations. Thread-safe."""

    resolver: CandidateResolver
    policies: HardPolicies
    stream_of: Mapping[tuple[int, int], int]
    """Position of each (domain code, action code) among the generation's streams."""
    index: IndexGeneration | None
    key_search: KeySearch | None
    """None when there is no index."""

    @staticmethod
    def of(snapshot: Snapshot, index: IndexGeneration | None, config: SearchConfig) -> Serving:
        """Prepares a pair of generations.

        Raises:
            IndexMismatchError: The index was built for another taxonomy.
            FaissMissingError: The configured engine is not installed, or has no device.
        """
        if index is not None:
            index.check_store(snapshot)
        serving = Serving(
            resolver=CandidateResolver.of(snapshot),
            policies=HardPolicies.of(config.hard, snapshot.vocabulary),
            stream_of={stream: at for at, stream in enumerate(snapshot.meta.streams)},
            index=index,
            key_search=key_search_of(index, config.soft) if index is not None else None,
        )
        compile_kernels(snapshot, serving, config)
        return serving


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

    Raises:
        InputError: The answer could come to more entries than the server answers.
    """
    user = snapshot.user(request.user)
    history = History.before(user.columns, request.as_of_ms)
    lap("read")
    return _answer(user, history, snapshot, serving, config, request, check_time)


def compile_kernels(snapshot: Snapshot, serving: Serving, config: SearchConfig) -> None:
    """Answers one synthetic request, so that no real one waits for kernels to be compiled."""
    num_rows = config.soft.top_k + 2  # more than soft search may simply answer
    position = np.arange(num_rows, dtype=np.uint32)
    columns = UserColumns(
        sections=(Section(domain=0, action=0, start=0, stop=num_rows),) if snapshot.vocabulary.actions else (),
        node=np.zeros(num_rows, np.uint32),
        timestamp_ms=position.astype(np.int64),
        item=np.zeros(num_rows, np.uint64),
        scene=np.zeros(num_rows, np.uint16),
        rank=position,
        order=position,
    )
    if columns.sections:
        request = SearchRequest(user=0, as_of_ms=num_rows, candidates=Candidates.by_id(np.zeros(2, np.uint64)))
        history = History.before(columns, num_rows)
        _answer(snapshot.user(request.user), history, snapshot, serving, config, request, lambda: None)


def _answer(
    user: UserView,
    history: History,
    snapshot: Snapshot,
    serving: Serving,
    config: SearchConfig,
    request: SearchRequest,
    check_time: Callable[[], None],
) -> SearchResult:
    domains = [snapshot.vocabulary.domains[code] for code in history.domains]
    check_answer_size(request, config, domains, history.cut)
    resolved = serving.resolver.resolve(request.candidates)
    levels = 1 + max(config.hard.deepest_level, config.statistics.levels - 1, 1)
    matches = match_levels(resolved, history, snapshot.taxonomy, levels)
    lap("match")
    check_time()
    policies = serving.policies.for_vocabulary(config.hard, snapshot.vocabulary)
    hard = hard_search(matches, policies, request.as_of_ms, request.top_k.hard)
    lap("hard")
    check_time()
    queries, query = _queries(serving.index, resolved)
    bands = bands_of(history, config.soft.time_term, request.as_of_ms)
    soft = _soft(serving, queries, query, history, bands, lower(config.soft.top_k, request.top_k.soft))
    lap("soft")
    check_time()
    merged = merge(hard, soft, history.cut, lower(config.recent.top_k, request.top_k.recent))
    at_most = history.cut if request.newest == WHOLE_HISTORY else config.limits.max_newest
    num_newest = min(request.newest, at_most, history.cut)
    used, index = number_used(merged.rank, history.cut, num_newest)
    offsets, entries = spread_lists(merged.list_of, merged.start)
    lap("merge")
    behaviors = _behaviors(history, used, snapshot.taxonomy)
    fields = user.behavior_fields(used, request.behavior_fields)
    score = _scores(serving.index, queries, query, history, merged, used, index)
    equal = first_equal(merged.start, merged.rank, merged.level, merged.source, score.view(np.uint32))
    # A stream that is new in the delta has no place in the statistics before the next generation.
    placed = [serving.stream_of.get((section.domain, section.action), -1) for section in history.columns.sections]
    streams, half_life_ms = np.array(placed, np.int64), np.array(config.statistics.half_life_ms, np.int64)
    names = snapshot.streams
    similar = similarities(serving.index, queries, query, history, streams, len(names), half_life_ms)
    return SearchResult(
        behaviors=behaviors,
        vocabulary=snapshot.vocabulary,
        offsets=offsets,
        index=index[entries],
        score=score[entries],
        match_level=merged.level[entries],
        source=merged.source[entries],
        same_as=merged.first[equal[merged.list_of]].astype(np.int32),
        statistics=match_statistics(matches, names, streams, request.as_of_ms, config.statistics, similar),
        candidate_category=ids_of(resolved.main_category, read_only(snapshot.taxonomy.id)),
        candidate_fields=snapshot.items.take(*rows_of(snapshot.items.ids, request.candidates.item)),
        user_fields=user.fields,
        num_newest=num_newest,
        num_behaviors=history.cut,
        num_unknown_items=int(np.count_nonzero(resolved.item_node == snapshot.taxonomy.unmapped)),
        store_generation=snapshot.generation,
        index_generation=serving.index.name if serving.index is not None else "",
        index_model=serving.index.model if serving.index is not None else "",
        delta_sequence=snapshot.delta_sequence,
        configuration=config.configuration,
        behavior_fields=fields,
        names=_names(behaviors, fields, request.candidates, snapshot) if request.with_names else None,
    )


def _queries(index: IndexGeneration | None, resolved: ResolvedCandidates) -> tuple[F32, I64]:
    """Gives the distinct query vectors, and the one of each candidate; one without dimensions when there is no index.

    An unknown item is searched by its category's vector, an unknown category by zeros: the newest behaviors win.
    """
    if index is None:
        return np.zeros((1, 0), np.float32), np.zeros(len(resolved), np.int64)
    is_known = resolved.item_node < len(index.table) - 1
    node = index.representative[np.where(is_known, resolved.item_node, resolved.main_category)]
    query, first = number_distinct(node.astype(np.int64))
    return index.take(node[first]), query


def _soft(
    serving: Serving, queries: F32, query: I64, history: History, bands: Sequence[Band], top_k: int
) -> SoftMatches:
    if serving.index is None or serving.key_search is None or top_k == 0:
        return SoftMatches(query=query, start=np.zeros(len(queries) + 1, np.int64), rank=np.empty(0, np.int64))
    if any(band.add for band in bands):
        start, rank = search_bands(serving.key_search, queries, serving.index, history, bands, top_k)
    else:
        keys = Keys.of(history, serving.index.representative)
        start, rank = soft_search(serving.key_search, queries, keys, history, top_k)
    return SoftMatches(query=query, start=start, rank=rank)


def _behaviors(history: History, used: I64, taxonomy: Taxonomy) -> BehaviorColumns:
    """Gives the behaviors of all lists, each once, oldest first."""
    row, section, time_ms, category = describe_rows(
        used,
        history.order,
        history.node,
        history.timestamp_ms,
        history.section_start,
        taxonomy.parent,
        taxonomy.is_item,
        taxonomy.id,
    )
    columns = history.columns
    domains = np.array([part.domain for part in columns.sections], np.uint8)
    actions = np.array([part.action for part in columns.sections], np.uint8)
    return BehaviorColumns(
        item=columns.item[row].astype(np.uint64),
        category=category,
        timestamp_ms=time_ms,
        domain=domains[section],
        action=actions[section],
        scene=columns.scene[row].astype(np.uint16),
    )


def _scores(
    index: IndexGeneration | None,
    queries: F32,
    query: I64,
    history: History,
    merged: Merged,
    used: I64,
    index_of: I32,
) -> F32:
    """Gives the score of every entry of the distinct lists."""
    scores = np.zeros(len(index_of), np.float32)
    if index is not None and len(index_of):
        vectors = index.take(index.representative[history.node[history.order[used]]])
        score_listed(read_only(queries), read_only(vectors), query[merged.first], merged.start, index_of, scores)
    return scores


def _names(
    behaviors: BehaviorColumns, fields: Mapping[str, ValueColumn], candidates: Candidates, snapshot: Snapshot
) -> Names:
    return Names(
        behavior_items=tuple(snapshot.name_of("item", int(item)) for item in behaviors.item),
        behavior_categories=tuple(snapshot.name_of("category", int(category)) for category in behaviors.category),
        candidates=tuple(snapshot.name_of("item", int(item)) for item in candidates.item),
        behavior_fields={
            name: tuple(snapshot.name_of("value", int(value)) for value in values)
            for name, values in fields.items()
            if value_type_of(values) is ID
        },
    )
