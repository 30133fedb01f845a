"""Stacked TIN: what a layer found becomes the question of the next, so that layer l crosses l behaviors.

    q^0 = v~                                                  in both table sets, A and R
    u^l = sum_i softmax_i( <e~_i, q^(l-1)> / sqrt(d) ) (e~_i * q^(l-1))
    q^l = LN( q^(l-1) + W_l u^l )                             one W_l and LN per table set
        or LN( SwiGLU( [u^1, ..., u^l, v~] ) )                STCA's fusion, with `fusion: all`: see `fusion`
    u   = [u^1, ..., u^L]

Source: arXiv 2510.21714 says what it is for (correlations between behaviors); the order of the crosses is second-hand;
the formulas, L = 3 and the two table sets are our choice. u^1 is exactly `tin.TIN`. From the second layer on the
attention question holds what was seen, so gradient reaches the representation tables through later attentions also:
DARE's separation holds in the first layer. Cost O(L M d).

Legend: M pairs, B candidates, W attentions of a layer (table sets), A attention width, R representation width, D a
width, N buckets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.fusion import FusedQuestion
from model_stage.blocks.interest import JointPairBlock
from model_stage.blocks.pairs import Attended, AttentionInput, full_precision, typed
from model_stage.blocks.position import PositionTables
from model_stage.blocks.registry import BlockConfig, register
from model_stage.blocks.tin import Layer, Question, StackedTables, attended, temporal_interest, temporal_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.blocks.block_input import Positions, Shape


Fusion = Literal["last", "all"]


class NextQuestion(nn.Module):
    """q^l of one table set from q^(l-1) and u^l."""

    def __init__(self, found_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(found_dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)

    @staticmethod
    def together(blocks: Sequence[NextQuestion], question_WBD: Tensor, found_WBR: Tensor) -> Tensor:
        """Gives LN(q + W u) of several, (W, B, D), in full precision."""
        weight_WRD = full_precision(torch.stack([block.project.weight for block in blocks])).transpose(1, 2)
        scale_W1D = full_precision(torch.stack([block.norm.weight for block in blocks]))[:, None]
        shift_W1D = full_precision(torch.stack([block.norm.bias for block in blocks]))[:, None]
        norm = blocks[0].norm
        with torch.autocast(found_WBR.device.type, enabled=False):
            raw_WBD = torch.baddbmm(question_WBD, found_WBR, weight_WRD)
        return torch.addcmul(
            shift_W1D, nn.functional.layer_norm(raw_WBD, norm.normalized_shape, eps=norm.eps), scale_W1D
        )


class StackedTIN(nn.Module):
    """Layers of temporal-interest attention over the same behaviors, positions shared by the layers."""

    def __init__(
        self,
        positions: Positions,
        attention_dim: int,
        representation_dim: int,
        num_layers: int = 3,
        fusion: Fusion = "last",
    ) -> None:
        super().__init__()
        self.attention_positions = PositionTables(positions, attention_dim)
        self.representation_positions = PositionTables(positions, representation_dim)

        def following(dim: int) -> nn.ModuleList:
            found = [representation_dim * layer for layer in range(1, num_layers)]
            if fusion == "all":
                return nn.ModuleList(FusedQuestion(found_dim, dim) for found_dim in found)
            return nn.ModuleList(NextQuestion(representation_dim, dim) for _ in found)

        self.attention_next, self.representation_next = following(attention_dim), following(representation_dim)
        self.out_dim = num_layers * representation_dim

    def forward(self, x: AttentionInput) -> Attended:
        """Attends; see the module docstring."""
        (found,) = self.together([self], x)
        return found

    @staticmethod
    def together(blocks: Sequence[StackedTIN], x: AttentionInput) -> list[Attended]:
        """Runs several over the same pairs, each layer of all of them in one pass."""
        attention = StackedTables.of([block.attention_positions for block in blocks], x)
        representation = StackedTables.of([block.representation_positions for block in blocks], x)
        query_WBA = first_WBA = x.attention_BA + attention.candidate_W1D
        value_WBR = first_WBR = x.representation_BR + representation.candidate_W1D
        found = list[Layer]()
        for layer in range(len(blocks[0].attention_next) + 1):
            if layer:
                seen = [each.found_WBR for each in found]
                attention_next = [block.attention_next[layer - 1] for block in blocks]
                representation_next = [block.representation_next[layer - 1] for block in blocks]
                query_WBA = _next(attention_next, query_WBA, first_WBA, seen)
                value_WBR = _next(representation_next, value_WBR, first_WBR, seen)
            question = Question(query_WBA=query_WBA, value_WBR=value_WBR)
            found.append(
                temporal_interest(question, x.attention_UA, x.representation_UR, (attention, representation), x)
            )
        return [attended(found, at, x) for at in range(len(blocks))]

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        key_MA = x.attention_UA[x.behavior_M] + self.attention_positions.encode(
            x.buckets_of(self.attention_positions.positions)
        )
        item_MR = x.representation_UR[x.behavior_M] + self.representation_positions.encode(
            x.buckets_of(self.attention_positions.positions)
        )

        def attend(candidate: int, mine: Tensor) -> list[Tensor]:
            query_A = first_A = x.attention_BA[candidate] + self.attention_positions.candidate_row
            value_R = first_R = x.representation_BR[candidate] + self.representation_positions.candidate_row
            found: list[tuple[Tensor, Tensor, Tensor]] = []
            for layer in range(len(self.attention_next) + 1):
                if layer:
                    seen = [each[0] for each in found]
                    query_A = _next_reference(self.attention_next[layer - 1], query_A, first_A, seen)
                    value_R = _next_reference(self.representation_next[layer - 1], value_R, first_R, seen)
                found.append(temporal_reference(query_A, value_R, key_MA[mine], item_MR[mine]))
            return [torch.cat(parts, dim=-1) for parts in zip(*found, strict=True)]

        return x.by_candidate(attend)


def _next(blocks: Sequence[nn.Module], question_WBD: Tensor, first_WBD: Tensor, seen: Sequence[Tensor]) -> Tensor:
    """Gives the next question of several attentions, (W, B, D), in full precision.

    Args:
        blocks: Of one kind.
        question_WBD: The last question.
        first_WBD: The first one, v~.
        seen: What every layer so far found, (W, B, R) each.
    """
    if fused := typed(blocks, FusedQuestion):
        parts = zip(*(each_WBR.unbind(0) for each_WBR in seen), strict=True)
        return torch.stack(
            [block(found, own) for block, found, own in zip(fused, parts, first_WBD.unbind(0), strict=True)]
        )
    return NextQuestion.together(typed(blocks, NextQuestion), question_WBD, seen[-1])


def _next_reference(module: nn.Module, question_D: Tensor, first_D: Tensor, seen: Sequence[Tensor]) -> Tensor:
    """The same for one candidate, written out."""
    if isinstance(module, FusedQuestion):
        return module.reference(seen, first_D)
    following = cast("NextQuestion", module)
    raw_D = question_D + following.project.weight @ seen[-1]
    centred_D = raw_D - raw_D.mean()
    normal_D = centred_D / torch.sqrt((centred_D**2).mean() + following.norm.eps)
    return normal_D * following.norm.weight + following.norm.bias


@register
class StackedTINConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["stacked_tin"]
    layers: int = Field(ge=1, le=8)
    """Layer l crosses l behaviors."""
    fusion: Fusion = "last"
    """What the next question is made of: what the layer before asked and found, or, as in STCA, all that was found
    before and the candidate."""
    reads_attention = True

    def build(self, shape: Shape) -> JointPairBlock:
        """See `BlockConfig`."""
        dims = shape.attention_dim, shape.representation_dim, self.layers
        return JointPairBlock(
            shape,
            lambda positions: StackedTIN(positions, *dims, self.fusion),
            positional=True,
            num_masses=self.layers,
            reads_attention=True,
        )
