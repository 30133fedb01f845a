"""Draws requests and results of the wire contract, and compares them bit by bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from model_stage.types import Contribution, ExplainedBehavior, ExplainResult, RankRequest, RankResult, Versions
from store.events import EventBatch
from store.lists import Lists
from store.retrieval import (
    Ancestors,
    BehaviorColumns,
    Candidates,
    HistoryPage,
    MatchStatistics,
    Names,
    SearchRequest,
    SearchResult,
    TopK,
)
from store.types import NO_ID, Vocabulary

ids = st.integers(0, NO_ID)
times = st.integers(-(2**63), 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
words = st.text(max_size=5)


def assert_same(left: object, right: object, where: str = "") -> None:
    """Checks that two values are of one type and one content, arrays to the bit."""
    if isinstance(left, Mapping):
        assert isinstance(right, Mapping), where
        assert list(left) == list(right), where
        for key in left:
            assert_same(left[key], right[key], f"{where}[{key!r}]")
    elif isinstance(left, np.ndarray):
        assert isinstance(right, np.ndarray), where
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        assert left.tobytes() == right.tobytes(), where
    elif dataclasses.is_dataclass(left):
        assert type(left) is type(right), where
        for field in dataclasses.fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name), f"{where}.{field.name}")
    else:
        assert left == right, where


def codes(dtype: type, length: int) -> st.SearchStrategy[np.ndarray]:
    """Integers from random bytes, a column at once: drawing number by number takes Hypothesis far longer."""
    size = length * np.dtype(dtype).itemsize
    return st.binary(min_size=size, max_size=size).map(lambda data: np.frombuffer(data, dtype))


@st.composite
def id_column(draw: st.DrawFn, length: int) -> np.ndarray:
    missing = draw(codes(np.uint8, length)) > 200
    return np.where(missing, np.uint64(NO_ID), draw(codes(np.uint64, length)))


@st.composite
def numbers(draw: st.DrawFn, length: int, *, missing: float = 0.0) -> np.ndarray:
    values = draw(codes(np.uint32, length)).view(np.float32)
    return np.where(np.isfinite(values), values, np.float32(missing))


def side_info(length: int) -> st.SearchStrategy[dict[str, np.ndarray]]:
    """Fields as the contract has them: ids with NO_ID for missing, numbers with NaN for missing, lists."""
    columns = id_column(length) | numbers(length, missing=np.nan) | id_lists(length)
    return st.dictionaries(words, columns, max_size=3)


@st.composite
def ragged(draw: st.DrawFn, num_lists: int, max_each: int = 4) -> np.ndarray:
    lengths = draw(st.lists(st.integers(0, max_each), min_size=num_lists, max_size=num_lists))
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


@st.composite
def id_lists(draw: st.DrawFn, num_lists: int) -> Lists[np.uint64]:
    offsets = draw(ragged(num_lists))
    return Lists(values=draw(codes(np.uint64, int(offsets[-1]))), offsets=offsets)


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    length = draw(st.integers(0, 5))
    offsets = draw(ragged(length))
    asked = Candidates(
        item=draw(id_column(length)),
        category=draw(id_column(length)),
        covers=draw(id_column(int(offsets[-1]))),
        covers_offsets=offsets,
    )
    if draw(st.booleans()):
        offsets = draw(ragged(length))
        return dataclasses.replace(asked, more_categories=draw(id_column(int(offsets[-1]))), more_offsets=offsets)
    return asked


@st.composite
def search_requests(draw: st.DrawFn) -> SearchRequest:
    limit = st.none() | st.integers(0, 2**32 - 1)
    asked = draw(candidates())
    return SearchRequest(
        user=draw(ids),
        as_of_ms=draw(times),
        candidates=asked,
        top_k=TopK(hard=draw(limit), soft=draw(limit), recent=draw(limit)),
        newest=draw(st.integers(0, 2**32 - 2)),
        with_names=draw(st.booleans()),
        behavior_fields=tuple(draw(st.lists(words, max_size=3))),
        delta_sequence=draw(st.none() | ids),
    )


@st.composite
def rank_requests(draw: st.DrawFn) -> RankRequest:
    asked = draw(candidates())
    return RankRequest(
        user=draw(ids),
        as_of_ms=draw(times),
        candidates=asked,
        targets=tuple(draw(st.lists(words, max_size=3))),
        candidate_fields=draw(side_info(len(asked))),
        user_fields=draw(side_info(1)),
        context_fields=draw(side_info(1)),
        experiment=draw(words),
    )


@st.composite
def behaviors(draw: st.DrawFn, length: int) -> BehaviorColumns:
    return BehaviorColumns(
        item=draw(id_column(length)),
        category=draw(id_column(length)),
        timestamp_ms=draw(codes(np.int64, length)),
        domain=draw(codes(np.uint8, length)),
        action=draw(codes(np.uint8, length)),
        scene=draw(codes(np.uint16, length)),
    )


@st.composite
def statistics(draw: st.DrawFn, num_candidates: int) -> MatchStatistics:
    shape = (num_candidates, draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    cells, streams = shape[0] * shape[1] * shape[2], shape[2]
    within_ms, num_profiles = sorted(draw(st.sets(times, max_size=2))), draw(st.integers(0, 2))
    return MatchStatistics(
        streams=tuple(draw(st.lists(st.tuples(words, words), min_size=shape[2], max_size=shape[2]))),
        within_ms=np.array(within_ms, np.int64),
        count=draw(codes(np.int32, cells)).reshape(shape),
        age_ms=draw(codes(np.int64, cells)).reshape(shape),
        oldest_age_ms=draw(codes(np.int64, cells)).reshape(shape),
        within=draw(codes(np.int32, cells * len(within_ms))).reshape(*shape, len(within_ms)),
        total_count=draw(codes(np.int32, streams)),
        total_age_ms=draw(codes(np.int64, streams)),
        total_oldest_age_ms=draw(codes(np.int64, streams)),
        total_within=draw(codes(np.int32, streams * len(within_ms))).reshape(streams, len(within_ms)),
        half_life_ms=draw(codes(np.int64, num_profiles)),
        similarity=draw(numbers(num_candidates * streams * num_profiles, missing=np.nan)).reshape(
            num_candidates, streams, num_profiles
        ),
    )


@st.composite
def search_results(draw: st.DrawFn) -> SearchResult:
    num_candidates, union = draw(st.integers(0, 3)), draw(st.integers(0, 4))
    offsets = draw(ragged(num_candidates)) if union else np.zeros(num_candidates + 1, np.int64)
    pairs, lengths = int(offsets[-1]), np.diff(offsets).tolist()
    first = [lengths.index(length) for length in lengths]
    same_as = draw(st.sampled_from([first, range(num_candidates)]))
    names = st.builds(
        Names,
        behavior_items=st.tuples(*[words] * union),
        behavior_categories=st.tuples(*[words] * union),
        candidates=st.tuples(*[words] * num_candidates),
        behavior_fields=st.dictionaries(words, st.tuples(*[words] * union), max_size=2),
    )
    tuples = st.lists(words, max_size=3).map(tuple)
    return SearchResult(
        behaviors=draw(behaviors(union)),
        vocabulary=draw(st.builds(Vocabulary, domains=tuples, actions=tuples, scenes=tuples)),
        offsets=offsets,
        index=(draw(codes(np.uint32, pairs)) % max(union, 1)).astype(np.int32),
        score=draw(numbers(pairs)),
        match_level=draw(codes(np.uint8, pairs)),
        source=draw(codes(np.uint8, pairs)),
        same_as=np.array(same_as, np.int32),
        statistics=draw(statistics(num_candidates)),
        candidate_category=draw(id_column(num_candidates)),
        candidate_fields=draw(side_info(num_candidates)),
        user_fields=draw(side_info(1)),
        num_newest=draw(st.integers(0, union)),
        num_behaviors=draw(st.integers(0, 2**32 - 1)),
        num_unknown_items=draw(st.integers(0, 2**32 - 1)),
        store_generation=draw(words),
        index_generation=draw(words),
        index_model=draw(words),
        delta_sequence=draw(ids),
        configuration=draw(words),
        behavior_fields=draw(st.dictionaries(words, id_column(union) | numbers(union, missing=np.nan), max_size=2)),
        names=draw(st.none() | names),
    )


@st.composite
def history_pages(draw: st.DrawFn) -> HistoryPage:
    length = draw(st.integers(0, 4))
    tuples = st.lists(words, max_size=3).map(tuple)
    return HistoryPage(
        behaviors=draw(behaviors(length)),
        behavior_fields=draw(st.dictionaries(words, id_column(length) | numbers(length, missing=np.nan), max_size=2)),
        vocabulary=draw(st.builds(Vocabulary, domains=tuples, actions=tuples, scenes=tuples)),
        next_page_token=draw(words),
        store_generation=draw(words),
    )


@st.composite
def event_batches(draw: st.DrawFn) -> EventBatch:
    length = draw(st.integers(0, 4))
    texts = st.lists(words, min_size=length, max_size=length)
    return EventBatch(
        user=draw(codes(np.uint64, length)),
        item=draw(codes(np.uint64, length)),
        category=draw(id_column(length)),
        timestamp_ms=draw(codes(np.int64, length)),
        domain=draw(texts),
        action=draw(texts),
        scene=draw(texts),
        key=draw(id_column(length)),
        fields=draw(st.dictionaries(words, id_column(length) | numbers(length, missing=np.nan), max_size=2)),
    )


ancestors = st.builds(
    Ancestors, above=st.integers(0, 4).flatmap(lambda length: id_lists(length)), store_generation=words
)

versions = st.builds(
    Versions, bundle=words, store_generation=words, index_generation=words, index_model=words, delta_sequence=ids
)


@st.composite
def rank_results(draw: st.DrawFn) -> RankResult:
    length, targets = draw(st.integers(0, 4)), draw(st.lists(words, max_size=3))
    return RankResult(
        targets=tuple(targets),
        probability=draw(numbers(length * len(targets))).reshape(length, len(targets)),
        num_retrieved=draw(codes(np.uint32, length)),
        num_behaviors=draw(st.integers(0, 2**32 - 1)),
        degraded=draw(st.booleans()),
        degraded_reason=draw(words),
        versions=draw(versions),
        ancestors_reason=draw(words),
        missing=tuple(draw(st.lists(words, max_size=2))),
        search_differences=tuple(draw(st.lists(words, max_size=2))),
    )


explained_behaviors = st.builds(
    ExplainedBehavior,
    item=ids,
    item_name=words,
    category=ids,
    category_name=words,
    timestamp_ms=times,
    domain=words,
    action=words,
    match_level=st.integers(0, 255),
    source=st.integers(0, 7),
    score=finite,
    scene=words,
    side_info=st.dictionaries(words, st.none() | finite | words, max_size=3),
    attention=st.lists(finite, max_size=3).map(tuple),
)

contributions = st.builds(Contribution, part=words, logit=st.lists(finite, max_size=3).map(tuple))


@st.composite
def explanations(draw: st.DrawFn) -> ExplainResult:
    targets = draw(st.lists(words, max_size=3))
    return ExplainResult(
        candidate_name=draw(words),
        targets=tuple(targets),
        probability=tuple(draw(st.lists(finite, min_size=len(targets), max_size=len(targets)))),
        logit=tuple(draw(st.lists(finite, min_size=len(targets), max_size=len(targets)))),
        contributions=tuple(draw(st.lists(contributions, max_size=2))),
        behaviors=tuple(draw(st.lists(explained_behaviors, max_size=3))),
        versions=draw(versions),
        ancestors_reason=draw(words),
        missing=tuple(draw(st.lists(words, max_size=2))),
        search_differences=tuple(draw(st.lists(words, max_size=2))),
    )
