"""Mean pooling of what was retrieved: attention that looks at nothing, the floor every other block must clear.

    a_i = 1 / K          u = sum_i a_i e_i          mass = log(1 + K)

Legend: M pairs, B candidates, R representation width, K pairs of one candidate. The mass is our choice, see `tin`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from model_stage.blocks.interest import PairBlock
from model_stage.blocks.pairs import Attended, AttentionInput, full_precision
from model_stage.blocks.registry import BlockConfig, register

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Shape


class MeanPool(nn.Module):
    """The mean of each candidate's behaviors, one attention, on the representation table. Has no parameters."""

    def __init__(self, representation_dim: int) -> None:
        super().__init__()
        self.out_dim = representation_dim

    def forward(self, x: AttentionInput) -> Attended:
        """Pools; see the module docstring."""
        item_UR = full_precision(x.representation_UR)
        nothing_WBA, nothing_UGA = item_UR.new_zeros((1, x.num_candidates, 0)), item_UR.new_zeros((len(item_UR), 1, 0))
        pooled_WBR, _, mass_WB, weight_WM = replace(x, buckets={}).attend(
            nothing_WBA, nothing_UGA, nothing_WBA, item_UR[:, None]
        )
        representation_BR = pooled_WBR.squeeze(0).to(x.representation_BR.dtype)
        return Attended(representation_BR=representation_BR, mass_BW=mass_WB.T, weight_WM=weight_WM)

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas, candidate by candidate; same answer as `forward`."""

        def attend(candidate: int, mine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            item_KR = x.representation_UR[x.behavior_M[mine]]
            count = len(item_KR)
            weight_K1 = item_KR.new_full((count, 1), 1 / max(count, 1))
            return item_KR.sum(0) / max(count, 1), weight_K1, torch.zeros_like(weight_K1)

        return x.by_candidate(attend)


@register
class PoolConfig(BlockConfig):
    """Options of the block in a preset: none."""

    kind: Literal["pool"]

    def build(self, shape: Shape) -> PairBlock:
        """See `BlockConfig`."""
        return PairBlock(shape, lambda positions: MeanPool(shape.representation_dim), positional=False, num_masses=1)
