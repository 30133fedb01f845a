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
from model_stage.blocks.pairs import Attended, AttentionInput, full_linear, full_precision
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
        self._positions = tuple(positions)
        self.times = nn.ParameterList(nn.Parameter(torch.randn(p.buckets, time_dim) * 0.02) for p in positions)
        self.query = nn.Linear(representation_dim, num_heads * head_dim, bias=False)
        self.key = nn.Linear(representation_dim + time_dim, num_heads * head_dim, bias=False)
        self._time_dim, self._heads, self._head_dim = time_dim, num_heads, head_dim
        self.out_dim = num_heads * (representation_dim + time_dim)

    def forward(self, x: AttentionInput) -> Attended:
        """Attends; see the module docstring."""
        heads, scale = (self._heads, self._head_dim), math.sqrt(self._head_dim)
        of_item, of_time = self.key.weight.tensor_split([x.representation_UR.shape[1]], dim=1)
        query_WBH = full_precision(self.query(x.representation_BR)).view(-1, *heads).transpose(0, 1) / scale
        key_UWH = nn.functional.linear(x.representation_UR, of_item).view(-1, *heads)
        time_NP = x.rows_of(self._positions, [*self.times], self._time_dim)
        key_WHN = full_linear(time_NP, of_time).view(-1, *heads).permute(1, 2, 0)
        with torch.autocast(query_WBH.device.type, enabled=False):
            item_U1R = x.representation_UR[:, None]
            items_WBR, share_WBN, mass_WB, weight_WM = x.attend(query_WBH, key_UWH, query_WBH @ key_WHN, item_U1R)
            times_WBP = share_WBN @ time_NP
        representation_BR = torch.cat([items_WBR, times_WBP], dim=2).transpose(0, 1).flatten(1)
        return Attended(
            representation_BR=representation_BR.to(x.representation_BR.dtype), mass_BW=mass_WB.T, weight_WM=weight_WM
        )

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        time_MP = x.representation_UR.new_zeros((len(x.behavior_M), self._time_dim))
        for table_NP, bucket_M in zip(self.times, x.buckets_of(self._positions), strict=True):
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
