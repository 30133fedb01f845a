"""Temporal Interest Network over decoupled tables, one attention per positional table set.

    e~_i = e_i + p_f(i)          v~ = v + p_f(0)
    a_i  = softmax_i( <e~_i, v~> / sqrt(d) )        on the attention tables
    u    = sum_i a_i (e~_i * v~)                    on the representation tables
    mass = log(1 + sum_i exp( <e~_i, v~> / sqrt(d) ))

Source: TIN, arXiv 2308.08487 (formulas and code); the two table sets are DARE's, arXiv 2410.02604. The mass is our
choice: a softmax says how attention is shared and not how much there was to attend to. It is a count of the behaviors,
each worth what its item, age and match level make it worth to this target.

Legend: M pairs, U behaviors of the union, B candidates, A attention width, R representation width, N buckets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from model_stage.blocks.interest import PairBlock
from model_stage.blocks.pairs import (
    Attended,
    AttentionInput,
    bucket_scores,
    pair_scores,
    pair_softmax,
    pooled_buckets,
    pooled_rows,
)
from model_stage.blocks.position import PositionTables
from model_stage.blocks.registry import BlockConfig, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.blocks.block_input import Shape
    from model_stage.config.targets import Position


class TIN(nn.Module):
    """One temporal-interest attention with positional tables of its own.

    `forward` and `reference` compute the same function; the fast path shares the work between candidates:
    it gathers (M, A) once, and positions cost (B, N) tables instead of (M, A) rows.
    """

    def __init__(self, positions: Sequence[Position], attention_dim: int, representation_dim: int) -> None:
        super().__init__()
        self.attention_positions = PositionTables(positions, attention_dim)
        self.representation_positions = PositionTables(positions, representation_dim)
        self.out_dim = representation_dim

    def forward(self, x: AttentionInput) -> Attended:
        """Attends; see the module docstring."""
        query_BA = x.attention_BA + self.attention_positions.candidate_row
        value_BR = x.representation_BR + self.representation_positions.candidate_row
        score_M1 = temporal_scores(query_BA, x.attention_UA.index_select(0, x.behavior_M), self.attention_positions, x)
        weight_M1, mass_B1 = pair_softmax(score_M1, x.candidate_M, x.num_candidates)
        item_MR = x.representation_UR.index_select(0, x.behavior_M)
        pooled_BR = temporal_pool(weight_M1, item_MR, self.representation_positions, x)
        representation_BR = (pooled_BR * value_BR).to(value_BR.dtype)
        return Attended(representation_BR=representation_BR, mass_BW=mass_B1, weight_MW=weight_M1)

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        query_BA = x.attention_BA + self.attention_positions.candidate_row
        value_BR = x.representation_BR + self.representation_positions.candidate_row
        key_MA = x.attention_UA[x.behavior_M] + self.attention_positions.encode(x.buckets)
        item_MR = x.representation_UR[x.behavior_M] + self.representation_positions.encode(x.buckets)
        outputs, masses, weights = [], [], []
        for candidate, (query_A, value_R) in enumerate(zip(query_BA, value_BR, strict=True)):
            mine = x.candidate_M == candidate
            score_K = key_MA[mine] @ query_A / math.sqrt(len(query_A))
            weight_K = torch.softmax(score_K, dim=0)
            outputs.append((weight_K[:, None] * item_MR[mine] * value_R).sum(0))
            masses.append(torch.log(1 + torch.exp(score_K).sum()))
            weights.append(weight_K)
        return Attended(
            representation_BR=torch.stack(outputs),
            mass_BW=torch.stack(masses)[:, None],
            weight_MW=torch.cat(weights)[:, None],
        )


def temporal_scores(query_BA: Tensor, key_MA: Tensor, positions: PositionTables, x: AttentionInput) -> Tensor:
    """Gives <e~_i, query> / sqrt(d) of each pair, e~_i never formed. (M, 1), float32 or better.

    Args:
        query_BA: Queries of the candidates.
        key_MA: The pairs' gathered attention embeddings, without positions.
        positions: Tables of p_f.
        x: The pairs and their buckets.
    """
    query_B1A = query_BA[:, None]
    score_M1 = pair_scores(query_B1A, key_MA[:, None], x.candidate_M)
    for table_NA, bucket_M in zip(positions.rows, x.buckets, strict=True):
        score_M1 = score_M1 + bucket_scores(query_B1A, table_NA[:, None], x.candidate_M, bucket_M)
    return score_M1 / math.sqrt(query_BA.shape[-1])


def temporal_pool(weight_M1: Tensor, item_MR: Tensor, positions: PositionTables, x: AttentionInput) -> Tensor:
    """Gives sum_i a_i e~_i of each candidate, e~_i never formed. (B, R), float32 or better.

    Args:
        weight_M1: The attention weights.
        item_MR: The pairs' gathered representations, without positions.
        positions: Tables of p_f.
        x: The pairs and their buckets.
    """
    pooled_BR = pooled_rows(weight_M1, item_MR[:, None], x.candidate_M, x.num_candidates).squeeze(1)
    for table_NR, bucket_M in zip(positions.rows, x.buckets, strict=True):
        rows_BR = pooled_buckets(weight_M1, table_NR[:, None], x.candidate_M, bucket_M, x.num_candidates)
        pooled_BR = pooled_BR + rows_BR.squeeze(1)
    return pooled_BR


@register
class TINConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["tin"]
    reads_attention = True

    def build(self, shape: Shape) -> PairBlock:
        """See `BlockConfig`."""
        dims = shape.attention_dim, shape.representation_dim
        return PairBlock(shape, lambda positions: TIN(positions, *dims), positional=True, num_masses=1)
