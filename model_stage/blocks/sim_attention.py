"""SIM's exact search unit: multi-head target attention over behaviors joined with the time that passed since.

    z_i   = [e_i, t_f(i)]
    a^h   = softmax_i( <W_z^h z_i, W_v^h v> / sqrt(H) )
    u     = [ sum_i a^1_i z_i, ..., sum_i a^W_i z_i ]

Source: SIM, arXiv 2006.05639, section 3 (the concatenated interval embedding, one projection pair per head, values not
projected, heads concatenated). The scale, the head width, several positional encodings summed into t and the mass (see
`tin`) are our choice. One table set.

Legend: M pairs, U behaviors of the union, B candidates, W heads, H width of a head, R representation width, P width of
time, Z = R + P, N buckets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import PairBlock
from model_stage.blocks.pairs import Attended, AttentionInput, pair_scores, pair_softmax, pooled_rows
from model_stage.blocks.registry import BlockConfig, register

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Positions, Shape


class SIMAttention(nn.Module):
    """Multi-head target attention with time, on the representation table.

    Keys are projected once per behavior of the union and once per bucket; `forward` never forms z.
    """

    def __init__(
        self, positions: Positions, representation_dim: int, time_dim: int, num_heads: int, head_dim: int
    ) -> None:
        super().__init__()
        self.times = nn.ParameterList(nn.Parameter(torch.randn(p.buckets, time_dim) * 0.02) for p in positions)
        self.query = nn.Linear(representation_dim, num_heads * head_dim, bias=False)
        self.key = nn.Linear(representation_dim + time_dim, num_heads * head_dim, bias=False)
        self._time_dim, self._heads, self._head_dim = time_dim, num_heads, head_dim
        self.out_dim = num_heads * (representation_dim + time_dim)

    def forward(self, x: AttentionInput) -> Attended:
        """Attends; see the module docstring."""
        heads = (self._heads, self._head_dim)
        of_item, of_time = self.key.weight.tensor_split([x.representation_UR.shape[1]], dim=1)
        query_BWH = self.query(x.representation_BR).view(-1, *heads)
        key_UWH = nn.functional.linear(x.representation_UR, of_item).view(-1, *heads)
        score_MW = pair_scores(query_BWH, key_UWH.index_select(0, x.behavior_M), x.candidate_M)
        times = [nn.functional.linear(table_NP, of_time).view(-1, *heads) for table_NP in self.times]
        score_MW = x.add_bucket_scores(score_MW, query_BWH, times)
        weight_MW, mass_BW = pair_softmax(score_MW / math.sqrt(self._head_dim), x.candidate_M, x.num_candidates)
        item_M1R = x.representation_UR.index_select(0, x.behavior_M)[:, None]
        items_BWR = pooled_rows(weight_MW, item_M1R, x.candidate_M, x.num_candidates)
        nothing_BWP = items_BWR.new_zeros((x.num_candidates, self._heads, self._time_dim))
        times_BWP = x.add_pooled_buckets(nothing_BWP, weight_MW, [table_NP[:, None] for table_NP in self.times])
        pooled_BWZ = torch.cat([items_BWR, times_BWP], dim=2)
        representation_BR = pooled_BWZ.flatten(1).to(x.representation_BR.dtype)
        return Attended(representation_BR=representation_BR, mass_BW=mass_BW, weight_MW=weight_MW)

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        time_MP = x.representation_UR.new_zeros((len(x.behavior_M), self._time_dim))
        for table_NP, bucket_M in zip(self.times, x.buckets, strict=True):
            time_MP = time_MP + table_NP[bucket_M]
        z_MZ = torch.cat([x.representation_UR[x.behavior_M], time_MP], dim=1)

        def attend(candidate: int, mine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            z_KZ = z_MZ[mine]
            query_WH = self.query(x.representation_BR[candidate]).view(self._heads, self._head_dim)
            key_KWH = self.key(z_KZ).view(len(z_KZ), self._heads, self._head_dim)
            score_KW = (key_KWH * query_WH).sum(2) / math.sqrt(self._head_dim)
            weight_KW = torch.softmax(score_KW, dim=0)
            return (weight_KW.T @ z_KZ).flatten(), weight_KW, score_KW

        return x.by_candidate(attend)


@register
class SIMConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["sim"]
    time_dim: int = Field(ge=1, le=256)
    heads: int = Field(ge=1, le=64)
    head_dim: int = Field(ge=1, le=256)

    def build(self, shape: Shape) -> PairBlock:
        """See `BlockConfig`."""
        dims = shape.representation_dim, self.time_dim, self.heads, self.head_dim
        return PairBlock(
            shape, lambda positions: SIMAttention(positions, *dims), positional=True, num_masses=self.heads
        )
