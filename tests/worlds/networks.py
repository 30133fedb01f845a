"""Small networks of any preset, and random requests for them. No store, no search: rows of made-up vocabularies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from model_stage.bundle import new_network
from model_stage.config.schema import BucketedField, CategoricalField, MultiValuedField, NumericField, Schema
from model_stage.config.targets import IntervalPosition, MatchLevelPosition, RankPosition, Target, Targets
from model_stage.encoding.batch import Batch, EncodedRequest, collate
from model_stage.encoding.encoder import RequestEncoder
from model_stage.encoding.vocabulary import IdRows, TreeVocabulary, Vocabularies
from model_stage.networks import NetworkConfig, RankingNetwork
from store.lists import Lists

DAY_MS = 86_400_000
SCHEMA = Schema(
    attention_dim=8,
    representation_dim=8,
    behavior_fields=("domain", "action", "scene"),
    fields=(
        CategoricalField(kind="categorical", name="brand", part="candidate"),
        CategoricalField(kind="categorical", name="segment", part="user", dim=3),
        NumericField(kind="numeric", name="price", part="candidate"),
        BucketedField(kind="bucketed", name="stock", part="candidate", buckets=3),
        CategoricalField(kind="categorical", name="shop", part="user", rows=5),
        MultiValuedField(kind="multi_valued", name="tags", part="candidate", dim=5),
        MultiValuedField(kind="multi_valued", name="likes", part="user", rows=6),
    ),
)
CLICK = Target(
    name="click",
    positions=(RankPosition(kind="rank", buckets=8), MatchLevelPosition(kind="match_level", levels=3)),
)
BUY = Target(name="buy", positions=(IntervalPosition(kind="interval", buckets=6),))
TARGETS = Targets(targets=(CLICK, BUY))

NUM_CATEGORIES, NUM_ITEMS = 9, 20
_ROW = np.arange(1 + NUM_CATEGORIES + NUM_ITEMS)
_LEAF = np.where(_ROW > NUM_CATEGORIES, 4 + _ROW % 6, _ROW)
_TOP = np.where(_LEAF > 3, 1 + _LEAF % 3, 0)
_PATH = np.stack([_ROW, np.where(_ROW > NUM_CATEGORIES, _LEAF, _TOP), np.where(_ROW > NUM_CATEGORIES, _TOP, 0)], axis=1)


def vocabularies() -> Vocabularies:
    """Three categories above six, and items below those."""
    categories, items = np.split(_ROW[1:].astype(np.int64), [NUM_CATEGORIES])
    return Vocabularies(
        tree=TreeVocabulary(
            categories=IdRows(ids=categories.astype(np.uint64), rows=categories),
            items=IdRows(ids=items.astype(np.uint64), rows=items),
            path=_PATH.astype(np.int32),
        ),
        behavior_names={"domain": ("ads", "content"), "action": ("buy", "click"), "scene": ("home",)},
        categorical={
            "brand": np.arange(4, dtype=np.uint64),
            "segment": np.arange(3, dtype=np.uint64),
            "tags": np.arange(7, dtype=np.uint64),
        },
        streams=(("ads", "click"), ("content", "buy")),
        boundaries={"stock": np.array([1, 2], np.float32)},
    )


def config_of(preset: str, **options) -> NetworkConfig:
    return NetworkConfig.model_validate({"preset": preset, "tower": [8], **options})


def make_network(config: NetworkConfig, targets: Targets = TARGETS, *, seed: int = 0, std: float = 0.3):
    """Gives a network whose parameters all matter."""
    network = new_network(SCHEMA, targets, config, vocabularies(), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def draw_lists(draw: np.random.Generator, count: int, num_rows: int) -> Lists[np.int64]:
    """Gives lists of 0 to 4 rows of a table."""
    list_of = np.repeat(np.arange(count), draw.integers(0, 5, count))
    return Lists.of(list_of, draw.integers(1, num_rows, len(list_of)), count)


def make_request(lengths, *, num_behaviors: int = 12, seed: int = 0) -> EncodedRequest:
    """Gives a random request; candidates with the same number of behaviors often have the same ones."""
    draw = np.random.default_rng(seed)
    encoder = RequestEncoder(SCHEMA, vocabularies())
    count, num_pairs = len(lengths), sum(lengths)
    chosen = {length: np.sort(draw.permutation(num_behaviors)[:length]) for length in lengths}
    levels = {length: draw.choice([0, 1, 2, 255], length) for length in lengths}
    stock = draw.integers(0, 4, count)
    user = np.full(count, draw.integers(0, 5))
    sources = {length: draw.choice([1, 2, 3, 4, 5, 6, 7], length) for length in lengths}
    joined = lambda parts, dtype: np.concatenate([parts[n] for n in lengths]).astype(dtype)  # noqa: E731
    assert max(lengths, default=0) <= num_behaviors
    assert num_pairs == len(joined(chosen, np.int32))
    return EncodedRequest(
        behavior_node=draw.integers(1, len(_ROW), num_behaviors).astype(np.int32),
        behavior_side=draw.integers(0, 2, (num_behaviors, 3)).astype(np.int32),
        interval_ms=np.sort(draw.integers(1, 200 * DAY_MS, num_behaviors))[::-1].copy(),
        pair_behavior=joined(chosen, np.int32),
        match_level=joined(levels, np.uint8),
        source=joined(sources, np.uint8),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        same_as=np.array([list(lengths).index(length) for length in lengths], np.int32),
        num_newest=num_behaviors,
        candidate_node=draw.integers(1, len(_ROW), count).astype(np.int32),
        categorical=np.stack([draw.integers(0, 5, count), stock, user, user], axis=1).astype(np.int32),
        multi_valued=(draw_lists(draw, count, 8), draw_lists(draw, 1, 7)[np.zeros(count, np.int64)]),
        dense=draw.normal(size=(count, len(encoder.dense_names))).astype(np.float32),
    )


def with_history(request: EncodedRequest, **columns) -> EncodedRequest:
    """Gives the request with one value in every row of some columns."""
    changed = {name: np.full_like(getattr(request, name), value) for name, value in columns.items()}
    return replace(request, **changed)


def batch_of(*requests: EncodedRequest) -> Batch:
    return collate(list(requests))


def run(network: RankingNetwork, *requests: EncodedRequest):
    with torch.inference_mode():
        return network(batch_of(*requests))


def weight_per_candidate(output, batch: Batch) -> list[torch.Tensor]:
    """Gives the weights (pairs, T) of each candidate."""
    counts = torch.bincount(batch.candidate_M, minlength=len(batch.request_B)).tolist()
    return list(output.weight_MT.split(counts))


def gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
