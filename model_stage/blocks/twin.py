"""TWIN: the attention that ranks is the attention that searches, made cheap enough to search a whole history.

    s^h_i = <K_i W_k^h, v W_q^h> / sqrt(H) + sum_j <C_ij, b_j^h>        K inherent features, C_j cross features
    a^h   = softmax(s^h)
    u     = W_o [ sum_i a^h_i (K_i W_v^h + sum_j C_ij W_j^h) ] over h

An inherent feature belongs to the behavior's item, so its projection is computed once per item; a cross feature
belongs to user and item together, and is compressed to one number per head. Here the cross features are the positional
encodings of the pair (interval, rank, match level ...), each with a table of its own.
Source: TWIN, arXiv 2302.02352 (feature split, one-number compression, four heads, the same scores in both stages), as
recalled: PAPERS has one line. Our choice: the paper's weight of each compressed feature is folded into b_j^h (the same
functions), search ranks by the mean over heads, and the mass (see `tin`). One table set.

Legend: M pairs, U behaviors of the union, B candidates, W heads, H width of a head, R representation width, C width of
a cross feature, N buckets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import PairBlock
from model_stage.blocks.pairs import (
    Attended,
    AttentionInput,
    full_linear,
    full_precision,
    pair_scores,
    spread,
    top_k_pairs,
    typed,
)
from model_stage.blocks.registry import BlockConfig, register

if TYPE_CHECKING:
    from model_stage.blocks.block_input import BlockInput, Positions, Shape


class TWIN(nn.Module):
    """Multi-head target attention with cross features, on the representation table; `search` uses the same scores."""

    def __init__(
        self, positions: Positions, representation_dim: int, cross_dim: int, num_heads: int, head_dim: int
    ) -> None:
        super().__init__()
        self._positions = tuple(positions)
        width = num_heads * head_dim
        self.crosses = nn.ParameterList(nn.Parameter(torch.randn(p.buckets, cross_dim) * 0.02) for p in positions)
        self.query = nn.Linear(representation_dim, width, bias=False)
        self.key = nn.Linear(representation_dim, width, bias=False)
        self.value = nn.Linear(representation_dim, width, bias=False)
        self.cross_score = nn.ParameterList(
            nn.Parameter(torch.randn(num_heads, cross_dim) / math.sqrt(cross_dim)) for _ in positions
        )
        self.cross_value = nn.ModuleList(nn.Linear(cross_dim, width, bias=False) for _ in positions)
        self.out = nn.Linear(width, representation_dim, bias=False)
        self._heads = (num_heads, head_dim)
        self.out_dim = representation_dim

    def scores(self, x: AttentionInput) -> Tensor:
        """Gives s of each pair and head. (M, W), float32 or better."""
        query_BWH = self.query(x.representation_BR).view(-1, *self._heads)
        key_UWH = self.key(x.representation_UR).view(-1, *self._heads)
        score_MW = pair_scores(query_BWH, key_UWH.index_select(0, x.behavior_M), x.candidate_M)
        score_MW = score_MW / math.sqrt(self._heads[1])
        for table_NC, b_WC, bucket_M in zip(self.crosses, self.cross_score, x.buckets_of(self._positions), strict=True):
            score_MW = score_MW + full_linear(table_NC, b_WC).index_select(0, bucket_M)
        return score_MW

    @torch.no_grad()
    def search(self, x: AttentionInput, top_k: int) -> Tensor:
        """Gives the rows of each candidate's `top_k` pairs by the mean score over heads, ascending. int64."""
        return top_k_pairs(self.scores(x).mean(1), x.candidate_M, top_k)

    def forward(self, x: AttentionInput) -> Attended:
        """Attends over all pairs given; see the module docstring."""
        query_WBH = full_precision(self.query(x.representation_BR)).view(-1, *self._heads).transpose(0, 1)
        key_UWH, value_UWH = (project(x.representation_UR).view(-1, *self._heads) for project in (self.key, self.value))
        scores = [full_linear(table_NC, b_WC) for table_NC, b_WC in zip(self.crosses, self.cross_score, strict=True)]
        bias_WN = x.rows_of(self._positions, scores, self._heads[0]).T
        bias_WBN = bias_WN[:, None].expand(-1, x.num_candidates, -1)
        query_WBH = query_WBH / math.sqrt(self._heads[1])
        pooled_WBH, share_WBN, mass_WB, weight_WM = x.attend(query_WBH, key_UWH, bias_WBN, value_UWH)
        projected = zip(self.crosses, typed(self.cross_value, nn.Linear), strict=True)
        values = [full_linear(table_NC, project.weight) for table_NC, project in projected]
        value_WNH = x.rows_of(self._positions, values, self.value.out_features).view(-1, *self._heads).transpose(0, 1)
        with torch.autocast(pooled_WBH.device.type, enabled=False):
            pooled_WBH = torch.baddbmm(pooled_WBH, share_WBN, value_WNH)
        representation_BR = self.out(pooled_WBH.transpose(0, 1).flatten(1).to(self.out.weight.dtype))
        return Attended(
            representation_BR=representation_BR.to(x.representation_BR.dtype), mass_BW=mass_WB.T, weight_WM=weight_WM
        )

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        scale = math.sqrt(self._heads[1])

        def attend(candidate: int, mine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            value_R = x.representation_BR[candidate]
            item_KR = x.representation_UR[x.behavior_M[mine]]
            crosses = [
                table_NC[bucket_M[mine]]
                for table_NC, bucket_M in zip(self.crosses, x.buckets_of(self._positions), strict=True)
            ]
            score_KW = (self.key(item_KR) * self.query(value_R)).view(-1, *self._heads).sum(2) / scale
            seen_KV = self.value(item_KR)
            for cross_KC, b_WC, project in zip(crosses, self.cross_score, self.cross_value, strict=True):
                score_KW = score_KW + cross_KC @ b_WC.T
                seen_KV = seen_KV + project(cross_KC)
            weight_KW = torch.softmax(score_KW, dim=0)
            pooled_WH = (weight_KW[:, :, None] * seen_KV.view(-1, *self._heads)).sum(0)
            return self.out(pooled_WH.flatten()), weight_KW, score_KW

        return x.by_candidate(attend)


class TWINBlock(PairBlock):
    """Lets the block's own scores choose the pairs that it attends over; the others have weight 0."""

    def __init__(self, shape: Shape, config: TWINConfig) -> None:
        dims = shape.representation_dim, config.cross_dim, config.heads, config.head_dim
        super().__init__(shape, lambda positions: TWIN(positions, *dims), positional=True, num_masses=config.heads)
        self._top_k = config.top_k

    def attend(self, pairs: AttentionInput, x: BlockInput) -> list[Attended]:
        """Searches, then attends."""
        return [self._attend(block, pairs) for block in typed(self.tables, TWIN)]

    def _attend(self, block: TWIN, pairs: AttentionInput) -> Attended:
        kept = block.search(pairs, self._top_k)
        return spread(block(pairs.take(kept)), kept, len(pairs.behavior_M))


@register
class TWINConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["twin"]
    cross_dim: int = Field(ge=1, le=256)
    heads: int = Field(ge=1, le=64)
    head_dim: int = Field(ge=1, le=256)
    top_k: int = Field(ge=1)
    """Pairs per candidate that the block's own scores keep."""

    def build(self, shape: Shape) -> TWINBlock:
        """See `BlockConfig`."""
        return TWINBlock(shape, self)
