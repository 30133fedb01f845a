"""Decoupled-side-info TIN: several attentions, each on some fields of a behavior; all pool the fusion of all fields.

    a^m_i = softmax_i( <e~_i^Sm, v~^Sm> / sqrt(d_m) )        subset m of the fields, with its own attention table
    u^m   = sum_i a^m_i (e~_i^F * v~^F)                      F = all fields, one representation table
    u     = [u^1, u^2, ...]

So that two fields interfere in a score only where a subset has both. Source: the idea (several TINs, a subset of
side-info fields each, fused representations) is known second-hand of arXiv 2510.21714, which gives no formula;
formulas, the concatenation and positions in every subset are our choice. With one subset of all fields: `tin.TIN`.

Legend: M pairs, U behaviors of the union, B candidates, W attentions of a subset (table sets), A attention width,
R representation width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.block_input import NODE, fuse
from model_stage.blocks.interest import PairBlock
from model_stage.blocks.pairs import Attended, AttentionInput, typed
from model_stage.blocks.position import PositionTables
from model_stage.blocks.registry import BlockConfig, register
from model_stage.blocks.tin import Question, StackedTables, attended, temporal_interest, temporal_reference
from model_stage.config.schema import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.blocks.block_input import BlockInput, Positions, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetEmbedding:
    """Fused attention embeddings of one subset of the fields."""

    attention_UA: Tensor
    attention_BA: Tensor


class DecoupledSideInfoTIN(nn.Module):
    """One attention per subset of the fields, all with the same positional encodings, tables apart.

    Args:
        positions: The encodings.
        num_subsets: How many.
        attention_dim: A, of every subset.
        representation_dim: R.
    """

    def __init__(self, positions: Positions, num_subsets: int, attention_dim: int, representation_dim: int) -> None:
        super().__init__()
        self.subset_positions = nn.ModuleList(PositionTables(positions, attention_dim) for _ in range(num_subsets))
        self.representation_positions = PositionTables(positions, representation_dim)
        self.out_dim = num_subsets * representation_dim

    def forward(self, x: AttentionInput, subsets: Sequence[SubsetEmbedding]) -> Attended:
        """Attends; see the module docstring.

        Args:
            x: Representations of all fields, pairs and buckets; its attention embeddings are not read.
            subsets: The embeddings of each subset, in their order.
        """
        (found,) = self.together([self], x, subsets)
        return found

    @staticmethod
    def together(
        blocks: Sequence[DecoupledSideInfoTIN], x: AttentionInput, subsets: Sequence[SubsetEmbedding]
    ) -> list[Attended]:
        """Runs several over the same pairs, each subset of all of them in one pass. Arguments: `forward`."""
        representation = StackedTables.of([block.representation_positions for block in blocks], x)
        value_WBR = x.representation_BR + representation.candidate_W1D
        found = []
        for at, subset in enumerate(subsets):
            tables = [typed(block.subset_positions, PositionTables)[at] for block in blocks]
            attention = StackedTables.of(tables, x)
            question = Question(query_WBA=subset.attention_BA + attention.candidate_W1D, value_WBR=value_WBR)
            both = attention, representation
            found.append(temporal_interest(question, subset.attention_UA, x.representation_UR, both, x))
        return [attended(found, at, x) for at in range(len(blocks))]

    def reference(self, x: AttentionInput, subsets: Sequence[SubsetEmbedding]) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        item_MR = x.representation_UR[x.behavior_M] + self.representation_positions.encode(
            x.buckets_of(self.representation_positions.positions)
        )

        def attend(candidate: int, mine: Tensor) -> list[Tensor]:
            value_R = x.representation_BR[candidate] + self.representation_positions.candidate_row
            found = []
            for tables, subset in zip(typed(self.subset_positions, PositionTables), subsets, strict=True):
                query_A = subset.attention_BA[candidate] + tables.candidate_row
                key_MA = subset.attention_UA[x.behavior_M] + tables.encode(x.buckets_of(tables.positions))
                found.append(temporal_reference(query_A, value_R, key_MA[mine], item_MR[mine]))
            return [torch.cat(parts, dim=-1) for parts in zip(*found, strict=True)]

        return x.by_candidate(attend)


class SideInfoBlock(PairBlock):
    """Gives each attention its parts of the behaviors' attention embedding.

    A candidate is a taxonomy node and has no domain, action or scene: in a subset without `NODE` it asks through a
    projection of its node's attention vector. Our choice.
    """

    def __init__(self, shape: Shape, subsets: Sequence[Sequence[str]]) -> None:
        width = shape.attention_dim
        super().__init__(
            shape,
            lambda positions: DecoupledSideInfoTIN(positions, len(subsets), width, shape.representation_dim),
            positional=True,
            num_masses=len(subsets),
            reads_attention=True,
        )
        self._subsets = [tuple(subset) for subset in subsets]
        self.asks = nn.ModuleList(
            nn.Identity() if NODE in subset else nn.Linear(width, width, bias=False) for subset in subsets
        )

    def attend(self, pairs: AttentionInput, x: BlockInput) -> list[Attended]:
        """Runs all instances with the embeddings of their subsets."""
        subsets = [
            SubsetEmbedding(
                attention_UA=fuse([x.attention_parts[name] for name in names]), attention_BA=ask(pairs.attention_BA)
            )
            for names, ask in zip(self._subsets, self.asks, strict=True)
        ]
        return DecoupledSideInfoTIN.together(typed(self.tables, DecoupledSideInfoTIN), pairs, subsets)


@register
class SideInfoTINConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["side_info_tin"]
    subsets: tuple[tuple[str, ...], ...] = Field(min_length=1)
    """Parts each attention reads: node, domain, action, scene, or a declared field of behaviors. One of the first four
    that the schema does not fuse into behaviors is left out, and a subset without parts with it."""
    reads_attention = True

    def build(self, shape: Shape) -> SideInfoBlock:
        """See `BlockConfig`."""
        known = (NODE, *shape.behavior_fields)
        strange = [name for subset in self.subsets for name in subset if name not in (*known, *BUILT_IN)]
        if strange:
            raise ValueError(f"subsets: {strange[0]!r} is no part of behaviors; there are {', '.join(known)}")
        kept = [[name for name in subset if name in known] for subset in self.subsets]
        subsets = [subset for subset in kept if subset]
        if not subsets:
            raise ValueError(f"subsets: none has a part that behaviors have: {', '.join(known)}")
        return SideInfoBlock(shape, subsets)
