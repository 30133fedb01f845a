"""Decoupled-side-info TIN: several attentions, each on some fields of a behavior; all pool the fusion of all fields.

    a^m_i = softmax_i( <e~_i^Sm, v~^Sm> / sqrt(d_m) )        subset m of the fields, with its own attention table
    u^m   = sum_i a^m_i (e~_i^F * v~^F)                      F = all fields, one representation table
    u     = [u^1, ..., u^W]

So that two fields interfere in a score only where a subset has both. Source: the idea (several TINs, a subset of
side-info fields each, fused representations) is known second-hand of arXiv 2510.21714, which gives no formula;
formulas, the concatenation and positions in every subset are our choice. With one subset of all fields: `tin.TIN`.

Legend: M pairs, U behaviors of the union, B candidates, W subsets, A attention width of a subset, R representation
width, N buckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from model_stage.blocks.pairs import Attended, AttentionInput, pair_softmax
from model_stage.blocks.position import PositionTables
from model_stage.blocks.tin import temporal_pool, temporal_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.config.targets import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetEmbedding:
    """Fused attention embeddings of one subset of the fields."""

    attention_UA: Tensor
    attention_BA: Tensor


class DecoupledSideInfoTIN(nn.Module):
    """One attention per subset of the fields, all with the same positional encodings, tables apart.

    Args:
        positions: The encodings.
        attention_dims: Width A of each subset.
        representation_dim: R.
    """

    def __init__(self, positions: Sequence[Position], attention_dims: Sequence[int], representation_dim: int) -> None:
        super().__init__()
        self.subset_positions = nn.ModuleList(PositionTables(positions, dim) for dim in attention_dims)
        self.representation_positions = PositionTables(positions, representation_dim)
        self.out_dim = len(attention_dims) * representation_dim

    def forward(self, x: AttentionInput, subsets: Sequence[SubsetEmbedding]) -> Attended:
        """Attends; see the module docstring.

        Args:
            x: Representations of all fields, pairs and buckets; its attention embeddings are not read.
            subsets: The embeddings of each subset, in the order of `attention_dims`.
        """
        item_MR = x.representation_UR.index_select(0, x.behavior_M)
        value_BR = x.representation_BR + self.representation_positions.candidate_row
        outputs, masses, weights = [], [], []
        for module, subset in zip(self.subset_positions, subsets, strict=True):
            tables = cast("PositionTables", module)
            key_MA = subset.attention_UA.index_select(0, x.behavior_M)
            score_M1 = temporal_scores(subset.attention_BA + tables.candidate_row, key_MA, tables, x)
            weight_M1, mass_B1 = pair_softmax(score_M1, x.candidate_M, x.num_candidates)
            outputs.append(temporal_pool(weight_M1, item_MR, self.representation_positions, x) * value_BR)
            masses.append(mass_B1)
            weights.append(weight_M1)
        return Attended(
            representation_BR=torch.cat(outputs, dim=1).to(value_BR.dtype),
            mass_BW=torch.cat(masses, dim=1),
            weight_MW=torch.cat(weights, dim=1),
        )

    def reference(self, x: AttentionInput, subsets: Sequence[SubsetEmbedding]) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        item_MR = x.representation_UR[x.behavior_M] + self.representation_positions.encode(x.buckets)
        outputs, masses, weights = [], [], []
        for candidate, embedded_R in enumerate(x.representation_BR):
            mine = x.candidate_M == candidate
            value_R = embedded_R + self.representation_positions.candidate_row
            found, mass, weight = [], [], []
            for module, subset in zip(self.subset_positions, subsets, strict=True):
                tables = cast("PositionTables", module)
                query_A = subset.attention_BA[candidate] + tables.candidate_row
                key_MA = subset.attention_UA[x.behavior_M] + tables.encode(x.buckets)
                score_K = key_MA[mine] @ query_A / math.sqrt(len(query_A))
                weight_K = torch.softmax(score_K, dim=0)
                found.append((weight_K[:, None] * item_MR[mine] * value_R).sum(0))
                mass.append(torch.log(1 + torch.exp(score_K).sum()))
                weight.append(weight_K)
            outputs.append(torch.cat(found))
            masses.append(torch.stack(mass))
            weights.append(torch.stack(weight, dim=1))
        return Attended(
            representation_BR=torch.stack(outputs), mass_BW=torch.stack(masses), weight_MW=torch.cat(weights)
        )
