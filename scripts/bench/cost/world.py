"""Made-up requests with exactly L behaviors, each of which was retrieved for every candidate, and networks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_stage.bundle import new_network
from model_stage.config.schema import CategoricalField, NumericField, Schema
from model_stage.config.targets import IntervalPosition, MatchLevelPosition, RankPosition, Target, Targets
from model_stage.encoding.batch import EncodedRequest, collate
from model_stage.encoding.encoder import RequestEncoder
from model_stage.encoding.vocabulary import IdRows, TreeVocabulary, Vocabularies
from model_stage.networks import NetworkConfig
from store.retrieval import SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT
from store.types import DAY_MS

if TYPE_CHECKING:
    from model_stage.encoding.batch import Batch
    from model_stage.networks import RankingNetwork

WIDTH = 16
"""Of the attention and of the representation table."""
_YEAR_MS = 365 * DAY_MS
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
        streams=(("ads", "click"), ("ads", "buy"), ("content", "click")),
    )


def make_network(preset: str, num_items: int = ITEMS) -> RankingNetwork:
    """Gives an untrained network of a preset, with everything else at its default."""
    config = NetworkConfig.model_validate({"preset": preset})
    return new_network(SCHEMA, TARGETS, config, vocabularies(num_items), seed=0)


def make_batch(length: int, num_candidates: int) -> Batch:
    """Gives one request as a batch; see `make_request`."""
    return collate([make_request(np.random.default_rng([length, num_candidates]), length, num_candidates)])


def make_request(draw: np.random.Generator, length: int, num_candidates: int, num_items: int = ITEMS) -> EncodedRequest:
    """Gives one request; half of its behaviors were found by hard search, half by soft search, some by both.

    Args:
        draw: Source of its numbers.
        length: Behaviors L.
        num_candidates: Candidates C; all have the same L behaviors.
        num_items: Of the vocabularies; every node is as likely as any other.
    """
    num_dense = len(RequestEncoder(SCHEMA, vocabularies(1)).dense_names)
    num_rows = 1 + _CATEGORIES + num_items
    sources = draw.choice([SOURCE_HARD, SOURCE_SOFT, SOURCE_HARD | SOURCE_SOFT | SOURCE_RECENT], length)
    brand = draw.integers(0, 500, num_candidates)
    return EncodedRequest(
        behavior_node=draw.integers(1, num_rows, length).astype(np.int32),
        behavior_side=draw.integers(0, 2, (length, 3)).astype(np.int32),
        interval_ms=np.sort(draw.integers(1, _YEAR_MS, length))[::-1].copy(),
        pair_behavior=np.tile(np.arange(length, dtype=np.int32), num_candidates),
        match_level=np.tile(draw.choice([0, 1, 2, 3, 255], length), num_candidates).astype(np.uint8),
        source=np.tile(sources, num_candidates).astype(np.uint8),
        offsets=np.arange(num_candidates + 1, dtype=np.int64) * length,
        same_as=np.zeros(num_candidates, np.int32),
        num_newest=length,
        candidate_node=draw.integers(1 + _CATEGORIES, num_rows, num_candidates).astype(np.int32),
        categorical=np.stack([brand, np.full(num_candidates, 3)], axis=1).astype(np.int32),
        dense=draw.normal(size=(num_candidates, num_dense)).astype(np.float32),
    )
