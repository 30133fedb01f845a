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
from model_stage.blocks.pairs import Attended, AttentionInput, pair_scores, pair_softmax, pooled_rows, side_by_side
from model_stage.blocks.position import PositionTables
from model_stage.blocks.registry import BlockConfig, register

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Positions, Shape


class TIN(nn.Module):
    """One temporal-interest attention with positional tables of its own.

    `forward` and `reference` compute the same function; the fast path shares the work between candidates:
    it gathers (M, A) once, and positions cost (B, N) tables instead of (M, A) rows.
    """

    def __init__(self, positions: Positions, attention_dim: int, representation_dim: int) -> None:
        super().__init__()
        self.attention_positions = PositionTables(positions, attention_dim)
        self.representation_positions = PositionTables(positions, representation_dim)
        self.out_dim = representation_dim

    def forward(self, x: AttentionInput) -> Attended:
        """Attends; see the module docstring."""
        value_BR = x.representation_BR + self.representation_positions.candidate_row
        found = temporal_interest(
            x.attention_BA + self.attention_positions.candidate_row,
            value_BR,
            x.attention_UA.index_select(0, x.behavior_M),
            x.representation_UR.index_select(0, x.behavior_M),
            (self.attention_positions, self.representation_positions),
            x,
        )
        return side_by_side([found], value_BR.dtype)

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        query_BA = x.attention_BA + self.attention_positions.candidate_row
        value_BR = x.representation_BR + self.representation_positions.candidate_row
        key_MA = x.attention_UA[x.behavior_M] + self.attention_positions.encode(x.buckets)
        item_MR = x.representation_UR[x.behavior_M] + self.representation_positions.encode(x.buckets)
        return x.by_candidate(
            lambda at, mine: temporal_reference(query_BA[at], value_BR[at], key_MA[mine], item_MR[mine])
        )


def temporal_interest(
    query_BA: Tensor,
    value_BR: Tensor,
    key_MA: Tensor,
    item_MR: Tensor,
    tables: tuple[PositionTables, PositionTables],
    x: AttentionInput,
) -> Attended:
    """Gives one attention of the module docstring, e~_i never formed; float32 or better.

    Args:
        query_BA: v~ of the attention.
        value_BR: v~ of the representation.
        key_MA: The pairs' gathered attention embeddings, without positions.
        item_MR: The pairs' gathered representations, without positions.
        tables: Tables of p_f, of the attention and of the representation.
        x: The pairs and their buckets.
    """
    keys, values = ([table_ND[:, None] for table_ND in each.rows] for each in tables)
    query_B1A = query_BA[:, None]
    score_M1 = x.add_bucket_scores(pair_scores(query_B1A, key_MA[:, None], x.candidate_M), query_B1A, keys)
    weight_M1, mass_B1 = pair_softmax(score_M1 / math.sqrt(query_BA.shape[-1]), x.candidate_M, x.num_candidates)
    items_B1R = pooled_rows(weight_M1, item_MR[:, None], x.candidate_M, x.num_candidates)
    pooled_BR = x.add_pooled_buckets(items_B1R, weight_M1, values).squeeze(1)
    return Attended(representation_BR=pooled_BR * value_BR, mass_BW=mass_B1, weight_MW=weight_M1)


def temporal_reference(
    query_A: Tensor, value_R: Tensor, key_KA: Tensor, item_KR: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gives u, weights and scores of one candidate over its rows e~_i, for `AttentionInput.by_candidate`."""
    score_K1 = (key_KA @ query_A / math.sqrt(len(query_A)))[:, None]
    weight_K1 = torch.softmax(score_K1, dim=0)
    return (weight_K1 * item_KR * value_R).sum(0), weight_K1, score_K1


@register
class TINConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["tin"]
    reads_attention = True

    def build(self, shape: Shape) -> PairBlock:
        """See `BlockConfig`."""
        dims = shape.attention_dim, shape.representation_dim
        return PairBlock(shape, lambda positions: TIN(positions, *dims), positional=True, num_masses=1)
