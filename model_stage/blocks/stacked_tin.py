"""Stacked TIN: what a layer found becomes the question of the next, so that layer l crosses l behaviors.

    q^0 = v~                                                  in both table sets, A and R
    u^l = sum_i softmax_i( <e~_i, q^(l-1)> / sqrt(d) ) (e~_i * q^(l-1))
    q^l = LN( q^(l-1) + W_l u^l )                             one W_l and LN per table set
    u   = [u^1, ..., u^L]

Source: arXiv 2510.21714 says what it is for (correlations between behaviors); the order of the crosses is second-hand;
the formulas, L = 3 and the two table sets are our choice. u^1 is exactly `tin.TIN`. From the second layer on the
attention question holds what was seen, so gradient reaches the representation tables through later attentions also:
DARE's separation holds in the first layer. Cost O(L M d).

Legend: M pairs, B candidates, W = L attentions (layers), A attention width, R representation width, N buckets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import PairBlock
from model_stage.blocks.pairs import Attended, AttentionInput, full_precision, layer_norm, side_by_side
from model_stage.blocks.position import PositionTables
from model_stage.blocks.registry import BlockConfig, register
from model_stage.blocks.tin import temporal_interest, temporal_reference

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Positions, Shape


class NextQuestion(nn.Module):
    """q^l of one table set from q^(l-1) and u^l."""

    def __init__(self, found_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(found_dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, question_BD: Tensor, found_BR: Tensor) -> Tensor:
        """Gives LN(q + W u), (B, D), in the dtype of the weights."""
        projected_BD = self.project(found_BR.to(self.project.weight.dtype))
        return layer_norm(full_precision(question_BD) + projected_BD, self.norm).to(question_BD.dtype)


class StackedTIN(nn.Module):
    """Layers of temporal-interest attention over the same behaviors, positions shared by the layers."""

    def __init__(self, positions: Positions, attention_dim: int, representation_dim: int, num_layers: int = 3) -> None:
        super().__init__()
        self.attention_positions = PositionTables(positions, attention_dim)
        self.representation_positions = PositionTables(positions, representation_dim)
        between = range(num_layers - 1)
        self.attention_next = nn.ModuleList(NextQuestion(representation_dim, attention_dim) for _ in between)
        self.representation_next = nn.ModuleList(NextQuestion(representation_dim, representation_dim) for _ in between)
        self.out_dim = num_layers * representation_dim

    def forward(self, x: AttentionInput) -> Attended:
        """Attends; see the module docstring."""
        key_MA = x.attention_UA.index_select(0, x.behavior_M)
        item_MR = x.representation_UR.index_select(0, x.behavior_M)
        query_BA = x.attention_BA + self.attention_positions.candidate_row
        value_BR = x.representation_BR + self.representation_positions.candidate_row
        tables, found = (self.attention_positions, self.representation_positions), list[Attended]()
        for layer in range(len(self.attention_next) + 1):
            if layer:
                query_BA = self.attention_next[layer - 1](query_BA, found[-1].representation_BR)
                value_BR = self.representation_next[layer - 1](value_BR, found[-1].representation_BR)
            found.append(temporal_interest(query_BA, value_BR, key_MA, item_MR, tables, x))
        return side_by_side(found, value_BR.dtype)

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        key_MA = x.attention_UA[x.behavior_M] + self.attention_positions.encode(x.buckets)
        item_MR = x.representation_UR[x.behavior_M] + self.representation_positions.encode(x.buckets)

        def attend(candidate: int, mine: Tensor) -> list[Tensor]:
            query_A = x.attention_BA[candidate] + self.attention_positions.candidate_row
            value_R = x.representation_BR[candidate] + self.representation_positions.candidate_row
            found: list[tuple[Tensor, Tensor, Tensor]] = []
            for layer in range(len(self.attention_next) + 1):
                if layer:
                    query_A = _next_reference(self.attention_next[layer - 1], query_A, found[-1][0])
                    value_R = _next_reference(self.representation_next[layer - 1], value_R, found[-1][0])
                found.append(temporal_reference(query_A, value_R, key_MA[mine], item_MR[mine]))
            return [torch.cat(parts, dim=-1) for parts in zip(*found, strict=True)]

        return x.by_candidate(attend)


def _next_reference(module: nn.Module, question_D: Tensor, found_R: Tensor) -> Tensor:
    """LN(q + W u) written out."""
    following = cast("NextQuestion", module)
    raw_D = question_D + following.project.weight @ found_R
    centred_D = raw_D - raw_D.mean()
    normal_D = centred_D / torch.sqrt((centred_D**2).mean() + following.norm.eps)
    return normal_D * following.norm.weight + following.norm.bias


@register
class StackedTINConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["stacked_tin"]
    layers: int = Field(ge=1, le=8)
    """Layer l crosses l behaviors."""
    reads_attention = True

    def build(self, shape: Shape) -> PairBlock:
        """See `BlockConfig`."""
        dims = shape.attention_dim, shape.representation_dim, self.layers
        return PairBlock(shape, lambda positions: StackedTIN(positions, *dims), positional=True, num_masses=self.layers)
