"""Made-up requests and what search found for them, exactly L behaviors, and networks to score them with.

Every candidate has all L behaviors, or, as real candidates do, a list of its own out of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from model_stage.bundle import new_network
from model_stage.config.schema import CategoricalField, NumericField, Schema
from model_stage.config.targets import IntervalPosition, MatchLevelPosition, RankPosition, Target, Targets
from model_stage.encoding.batch import EncodedRequest, collate
from model_stage.encoding.encoder import RequestEncoder
from model_stage.encoding.vocabulary import IdRows, TreeVocabulary, Vocabularies
from model_stage.networks import NetworkConfig
from model_stage.types import RankRequest
from store.retrieval import (
    NO_LEVEL,
    SOURCE_HARD,
    SOURCE_RECENT,
    SOURCE_SOFT,
    BehaviorColumns,
    Candidates,
    MatchStatistics,
    SearchResult,
)
from store.types import DAY_MS, NO_ID, Vocabulary

if TYPE_CHECKING:
    from model_stage.encoding.batch import Batch
    from model_stage.networks import RankingNetwork

WIDTH = 16
"""Of the attention and of the representation table."""
_YEAR_MS = 365 * DAY_MS
_AS_OF_MS = 1_740_000_000_000
_STREAMS = (("ads", "click"), ("ads", "buy"), ("content", "click"))
ITEMS = 20_000
_TOP, _CATEGORIES = 20, 220

SCHEMA = Schema(
    attention_dim=WIDTH,
    representation_dim=WIDTH,
    behavior_fields=("domain", "action", "scene"),
    fields=(
        CategoricalField(kind="categorical", name="brand", part="candidate"),
        CategoricalField(kind="categorical", name="segment", part="user"),
        NumericField(kind="numeric", name="price", part="candidate"),
    ),
)
TARGETS = Targets(
    targets=(
        Target(name="click", positions=(RankPosition(kind="rank"), IntervalPosition(kind="interval"))),
        Target(name="buy", positions=(IntervalPosition(kind="interval"), MatchLevelPosition(kind="match_level"))),
    )
)


def vocabularies(num_items: int = ITEMS) -> Vocabularies:
    """20 categories above 200, and items below those."""
    rows = np.arange(1 + _CATEGORIES + num_items)
    above = np.where(rows > _CATEGORIES, 1 + _TOP + rows % (_CATEGORIES - _TOP), 0)
    top = np.where(rows > _TOP, 1 + rows % _TOP, 0)
    is_item = rows > _CATEGORIES
    path = np.stack([rows, np.where(is_item, above, top), np.where(is_item, 1 + above % _TOP, 0)], axis=1)
    categories, items = np.split(rows[1:].astype(np.int64), [_CATEGORIES])
    return Vocabularies(
        tree=TreeVocabulary(
            categories=IdRows(ids=categories.astype(np.uint64), rows=categories),
            items=IdRows(ids=items.astype(np.uint64), rows=items),
            path=path.astype(np.int32),
        ),
        behavior_names={"domain": ("ads", "content"), "action": ("buy", "click"), "scene": ("home", "search")},
        categorical={"brand": np.arange(500, dtype=np.uint64), "segment": np.arange(20, dtype=np.uint64)},
        streams=_STREAMS,
    )


def make_network(
    preset: str, num_items: int = ITEMS, schema: Schema = SCHEMA, targets: Targets = TARGETS
) -> RankingNetwork:
    """Gives an untrained network of a preset, with everything else at its default."""
    config = NetworkConfig.model_validate({"preset": preset})
    return new_network(schema, targets, config, vocabularies(num_items), seed=0)


def make_batch(length: int, num_candidates: int, own: int | None = None) -> Batch:
    """Gives one request as a batch; see `make_request`."""
    return collate([make_request(np.random.default_rng([length, num_candidates]), length, num_candidates, own=own)])


def make_request(
    draw: np.random.Generator, length: int, num_candidates: int, num_items: int = ITEMS, own: int | None = None
) -> EncodedRequest:
    """Gives one request, encoded as the ranker encodes it, by `SCHEMA` or one with the same fields.

    Args:
        draw: Source of its numbers.
        length: Behaviors L.
        num_candidates: Candidates C.
        num_items: Of the vocabularies; every node is as likely as any other.
        own: K behaviors of each candidate, drawn from the L; None = all candidates have the same L.
    """
    item = draw.integers(1 + _CATEGORIES, 1 + _CATEGORIES + num_items, num_candidates).astype(np.uint64)
    request = RankRequest(
        user=1,
        as_of_ms=_AS_OF_MS,
        candidates=Candidates.by_id(item),
        candidate_fields={
            "brand": draw.integers(0, 500, num_candidates).astype(np.uint64),
            "price": draw.normal(size=num_candidates).astype(np.float32),
        },
        user_fields={"segment": np.array([3], np.uint64)},
    )
    behaviors = _behaviors(draw, length, num_items)
    return _encoder(num_items).encode(request, _found(draw, behaviors, num_candidates, own))


@lru_cache(maxsize=1)
def _encoder(num_items: int) -> RequestEncoder:
    return RequestEncoder(SCHEMA, vocabularies(num_items))


def _behaviors(draw: np.random.Generator, length: int, num_items: int) -> BehaviorColumns:
    node = draw.integers(1, 1 + _CATEGORIES + num_items, length).astype(np.uint64)  # as an id: that of its row
    return BehaviorColumns(
        item=np.where(node > _CATEGORIES, node, np.uint64(NO_ID)),
        category=node,
        timestamp_ms=_AS_OF_MS - np.sort(draw.integers(1, _YEAR_MS, length))[::-1],
        domain=draw.integers(0, 2, length).astype(np.uint8),
        action=draw.integers(0, 2, length).astype(np.uint8),
        scene=draw.integers(0, 2, length).astype(np.uint16),
    )


def _found(draw: np.random.Generator, behaviors: BehaviorColumns, num_candidates: int, own: int | None) -> SearchResult:
    """Gives an answer of search; half of each list was found by hard search, half by soft search, some by both."""
    length = len(behaviors)
    lists = num_candidates if own is not None else 1
    of_each = length if own is None else own
    index = np.sort(draw.permuted(np.tile(np.arange(length), (lists, 1)), axis=1)[:, :of_each], axis=1)
    source = draw.choice([SOURCE_HARD, SOURCE_SOFT, SOURCE_HARD | SOURCE_SOFT | SOURCE_RECENT], (lists, of_each))
    level = np.where(source & SOURCE_HARD, draw.integers(0, 4, (lists, of_each)), NO_LEVEL)
    index, source, level = (np.broadcast_to(each, (num_candidates, of_each)).ravel() for each in (index, source, level))
    return SearchResult(
        behaviors=behaviors,
        vocabulary=Vocabulary(domains=("ads", "content"), actions=("buy", "click"), scenes=("home", "search")),
        offsets=np.arange(num_candidates + 1, dtype=np.int64) * of_each,
        index=index.astype(np.int32),
        score=np.zeros(len(index), np.float32),
        match_level=level.astype(np.uint8),
        source=source.astype(np.uint8),
        same_as=(np.arange(num_candidates) if own is not None else np.zeros(num_candidates)).astype(np.int32),
        statistics=_statistics(draw, num_candidates),
        candidate_category=np.full(num_candidates, NO_ID, np.uint64),
        num_newest=length,
        num_behaviors=length,
        store_generation="",
        index_generation="",
    )


def _statistics(draw: np.random.Generator, num_candidates: int) -> MatchStatistics:
    cells, streams = (num_candidates, SCHEMA.match_levels, len(_STREAMS)), len(_STREAMS)
    within_ms = np.array([days * DAY_MS for days in SCHEMA.match_within_days], np.int64)
    return MatchStatistics(
        streams=_STREAMS,
        within_ms=within_ms,
        count=draw.integers(0, 50, cells).astype(np.int32),
        age_ms=draw.integers(1, _YEAR_MS, cells),
        oldest_age_ms=draw.integers(_YEAR_MS, 2 * _YEAR_MS, cells),
        within=draw.integers(0, 50, (*cells, len(within_ms))).astype(np.int32),
        total_count=draw.integers(0, 500, streams).astype(np.int32),
        total_age_ms=draw.integers(1, _YEAR_MS, streams),
        total_oldest_age_ms=draw.integers(_YEAR_MS, 2 * _YEAR_MS, streams),
        total_within=draw.integers(0, 500, (streams, len(within_ms))).astype(np.int32),
        half_life_ms=np.empty(0, np.int64),
        similarity=np.empty((num_candidates, streams, 0), np.float32),
    )
