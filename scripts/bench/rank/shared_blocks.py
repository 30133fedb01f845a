"""The blocks of the control `control_shared`, written from the formulas in the docstrings of `model_stage/blocks`.

Behaviors are embedded once, and gathered once per table set into (B, K, D) rectangles that all targets, layers and
subsets read; an attention is one product with them. What positions add is formed by bucket.

Legend: B candidates, U behaviors of the union, K of the longest list, A attention width, R representation width,
D either, X width of the user's fields, W attentions, N buckets of one encoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import embedding

from model_stage.blocks.block_input import NODE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from model_stage.config.targets import Position
    from scripts.bench.rank.padded import Rectangle, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What the blocks read: behaviors and candidates embedded, and the pairs."""

    pairs: Rectangle
    attention_parts: Mapping[str, Tensor]
    """(U, A) each."""
    attention_BA: Tensor
    representation_UR: Tensor
    representation_BR: Tensor
    user_BX: Tensor
    num_newest: int
    """The last so many rows of U are the user's newest behaviors."""
    same_as_B: Tensor
    """The first candidate with the same pairs. int64."""
    made: dict[object, Tensor] = field(default_factory=dict)
    """Buckets and rectangles, which several attentions read."""

    def buckets(self, positions: Sequence[Position]) -> list[Tensor]:
        """Gives the bucket of each cell under each encoding, int64 (B, K) each."""
        for position in positions:
            if position not in self.made:
                self.made[position] = self.pairs.bucket(position)
        return [self.made[position] for position in positions]

    def items(self) -> Tensor:
        """Gives a copy of its behaviors' representations for each candidate. (B, K, R)."""
        if "items" not in self.made:
            self.made["items"] = embedding(self.pairs.index_BK, self.representation_UR)
        return self.made["items"]

    def keys(self, names: Sequence[str]) -> Tensor:
        """Gives a copy of its behaviors' attention embeddings, of some parts, for each candidate. (B, K, A)."""
        key = tuple(names)
        if key not in self.made:
            whole_UA = torch.stack([self.attention_parts[name] for name in names]).sum(0)
            self.made[key] = embedding(self.pairs.index_BK, whole_UA)
        return self.made[key]


def attend(
    query_BWD: Tensor,
    key_BKD: Tensor,
    tables: Sequence[Tensor],
    x: Embedded,
    buckets: Sequence[Tensor],
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Gives weights (B, W, K) and mass (B, W) of softmax attention over each candidate's cells.

    Args:
        query_BWD: Queries.
        key_BKD: Keys without positions.
        tables: Of each encoding, (N, D); what they add to the keys.
        x: Has the pairs.
        buckets: Of each encoding, (B, K).
        scale: Divides the scores.
    """
    score_BWK = query_BWD @ key_BKD.transpose(1, 2)
    for table_ND, bucket_BK in zip(tables, buckets, strict=True):
        score_BWK = score_BWK + (query_BWD @ table_ND.T).gather(2, bucket_BK[:, None].expand_as(score_BWK))
    score_BWK = (score_BWK / scale).masked_fill(~x.pairs.valid_BK[:, None], -torch.inf)
    mass_BW = torch.nn.functional.softplus(torch.logsumexp(score_BWK, dim=2))
    return torch.softmax(score_BWK, dim=2).nan_to_num(), mass_BW


def pool(
    weight_BWK: Tensor, item_BKD: Tensor, tables: Sequence[Tensor], buckets: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Gives the weighted sums of items and of positions, (B, W, D) each."""
    places_BWD = weight_BWK.new_zeros(*weight_BWK.shape[:2], tables[0].shape[1])
    for table_ND, bucket_BK in zip(tables, buckets, strict=True):
        share_BWN = weight_BWK.new_zeros(*weight_BWK.shape[:2], len(table_ND))
        share_BWN.scatter_add_(2, bucket_BK[:, None].expand_as(weight_BWK), weight_BWK)
        places_BWD = places_BWD + share_BWN @ table_ND
    return weight_BWK @ item_BKD, places_BWD


def tin(weights: Weights, x: Embedded, positions: Sequence[Position], layers: int = 1) -> tuple[Tensor, Tensor]:
    """Gives representation (B, W R) and mass (B, W) of stacked temporal interest; one layer of it is `tin`."""
    keys, values = weights.under("attention_positions"), weights.under("representation_positions")
    key_BKA, item_BKR, buckets = x.keys(list(x.attention_parts)), x.items(), x.buckets(positions)
    query_BA, value_BR = x.attention_BA + keys["candidate_row"], x.representation_BR + values["candidate_row"]
    found: list[Tensor] = []
    masses: list[Tensor] = []
    for layer in range(layers):
        if layer:
            query_BA = _next(weights.under(f"attention_next.{layer - 1}"), query_BA, found[-1])
            value_BR = _next(weights.under(f"representation_next.{layer - 1}"), value_BR, found[-1])
        scale = math.sqrt(query_BA.shape[1])
        weight_B1K, mass_B1 = attend(query_BA[:, None], key_BKA, keys.tensors("rows"), x, buckets, scale)
        items_B1R, places_B1R = pool(weight_B1K, item_BKR, values.tensors("rows"), buckets)
        found.append((items_B1R + places_B1R)[:, 0] * value_BR)
        masses.append(mass_B1)
    return torch.cat(found, dim=1), torch.cat(masses, dim=1)


def _next(weights: Weights, question_BD: Tensor, found_BR: Tensor) -> Tensor:
    raw_BD = question_BD + found_BR @ weights["project.weight"].T
    return torch.nn.functional.layer_norm(raw_BD, raw_BD.shape[1:], weights["norm.weight"], weights["norm.bias"])


def side_info_tin(
    weights: Weights, asks: Weights, x: Embedded, positions: Sequence[Position], subsets: Sequence[Sequence[str]]
) -> tuple[Tensor, Tensor]:
    """Gives representation (B, W R) and mass (B, W) of an attention per subset of the fields."""
    values, buckets = weights.under("representation_positions"), x.buckets(positions)
    item_BKR, value_BR = x.items(), x.representation_BR + values["candidate_row"]
    found: list[Tensor] = []
    masses: list[Tensor] = []
    for number, names in enumerate(subsets):
        keys = weights.under(f"subset_positions.{number}")
        asked_BA = x.attention_BA if NODE in names else x.attention_BA @ asks[f"{number}.weight"].T
        query_B1A = (asked_BA + keys["candidate_row"])[:, None]
        scale = math.sqrt(query_B1A.shape[2])
        weight_B1K, mass_B1 = attend(query_B1A, x.keys(names), keys.tensors("rows"), x, buckets, scale)
        items_B1R, places_B1R = pool(weight_B1K, item_BKR, values.tensors("rows"), buckets)
        found.append((items_B1R + places_B1R)[:, 0] * value_BR)
        masses.append(mass_B1)
    return torch.cat(found, dim=1), torch.cat(masses, dim=1)


def sim(weights: Weights, x: Embedded, positions: Sequence[Position], heads: int) -> tuple[Tensor, Tensor]:
    """Gives representation (B, W (R + P)) and mass (B, W) of SIM's multi-head attention with time."""
    buckets, tables = x.buckets(positions), weights.tensors("times")
    width = x.representation_UR.shape[1]
    of_item, of_time = weights["key.weight"].tensor_split([width], dim=1)
    query_BWH = (x.representation_BR @ weights["query.weight"].T).unflatten(1, (heads, -1))
    scale = math.sqrt(query_BWH.shape[2])
    key_BKWH = embedding(x.pairs.index_BK, x.representation_UR @ of_item.T).unflatten(2, (heads, -1))
    item_BKR = x.items()
    found: list[Tensor] = []
    masses: list[Tensor] = []
    for head in range(heads):
        times = [(table_NP @ of_time.T).unflatten(1, (heads, -1))[:, head] for table_NP in tables]
        query_B1H = query_BWH[:, head : head + 1]
        weight_B1K, mass_B1 = attend(query_B1H, key_BKWH[:, :, head], times, x, buckets, scale)
        found += [each[:, 0] for each in pool(weight_B1K, item_BKR, tables, buckets)]
        masses.append(mass_B1)
    return torch.cat(found, dim=1), torch.cat(masses, dim=1)
