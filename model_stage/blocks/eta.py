"""ETA: the pairs whose SimHash codes lie nearest to the candidate's, then target attention over those.

    code(e) = SimHash          kept = the k pairs of least Hamming distance to code(v)          u = attention over kept

Source: ETA, arXiv 2108.04468 (end-to-end SimHash search in the place of inner products, then multi-head target
attention, codes from the embeddings being trained). Which attention follows is our choice: SIM's, with time; of equals
the newer pair is kept.

Legend: M pairs, U behaviors of the union, B candidates, R representation width, W heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import PairBlock
from model_stage.blocks.pairs import spread, top_k_pairs, top_k_reference
from model_stage.blocks.registry import BlockConfig, register
from model_stage.blocks.sim_attention import SIMAttention
from model_stage.blocks.simhash import MAX_BITS, SimHash, hamming, hamming_reference

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Positions, Shape
    from model_stage.blocks.pairs import Attended, AttentionInput


class ETA(nn.Module):
    """Search by Hamming distance inside the block, on the representation table; given the whole history as pairs."""

    def __init__(self, attention: SIMAttention, representation_dim: int, bits: int, top_k: int) -> None:
        super().__init__()
        self.attention = attention
        self.hash = SimHash(representation_dim, bits)
        self._top_k = top_k
        self.out_dim = attention.out_dim

    @torch.no_grad()
    def search(self, x: AttentionInput) -> Tensor:
        """Gives the rows of each candidate's pairs of least distance, ascending. int64."""
        code_U, code_B = self.hash(x.representation_UR), self.hash(x.representation_BR)
        distance_M = hamming(code_U.index_select(0, x.behavior_M), code_B.index_select(0, x.candidate_M))
        return top_k_pairs(-distance_M, x.candidate_M, self._top_k)

    def forward(self, x: AttentionInput) -> Attended:
        """Searches and attends; pairs that were not kept have weight 0."""
        kept = self.search(x)
        return spread(self.attention(x.take(kept)), kept, len(x.behavior_M))

    def reference(self, x: AttentionInput) -> Attended:
        """The same from the sides of the planes themselves; same answer as `forward`."""
        side_UK, side_BK = self.hash.bits(x.representation_UR), self.hash.bits(x.representation_BR)
        distance_M = hamming_reference(side_UK[x.behavior_M], side_BK[x.candidate_M])
        kept = top_k_reference(-distance_M, x.candidate_M, self._top_k)
        return spread(self.attention.reference(x.take(kept)), kept, len(x.behavior_M))


@register
class ETAConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["eta"]
    bits: int = Field(ge=1, le=MAX_BITS)
    top_k: int = Field(ge=1)
    time_dim: int = Field(ge=1, le=256)
    heads: int = Field(ge=1, le=64)
    head_dim: int = Field(ge=1, le=256)

    def build(self, shape: Shape) -> PairBlock:
        """See `BlockConfig`."""

        def make(positions: Positions) -> ETA:
            dim = shape.representation_dim
            attention = SIMAttention(positions, dim, self.time_dim, self.heads, self.head_dim)
            return ETA(attention, dim, self.bits, self.top_k)

        return PairBlock(shape, make, positional=True, num_masses=self.heads)
