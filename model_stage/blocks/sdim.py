"""SDIM: behaviors that fall into the candidate's hash buckets, summed; no scores, no top k, the whole list.

    sig_g(e) = bits of SimHash group g, T of them          G groups
    S_g(c)   = sum of e_j with sig_g(e_j) = c               one table of 2^T buckets per list and group
    u        = 1/G sum_g S_g(sig_g(v)) / |S_g(sig_g(v))|

A candidate reads G buckets whatever the length of the list: the tables depend on the list alone.
Source: SDIM, arXiv 2205.10249, as recalled (PAPERS has one line): collisions of T-bit signatures, G = 16 groups of 3
bits, normalised sums. That each bucket is normalised before the mean is our reading. One table set, no time; gradient
reaches what is summed and not the codes.

Legend: N rows of L lists, B candidates, D width, G groups, T bits per group, M (candidate, row) pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import ListBlock, ListConfig
from model_stage.blocks.pairs import full_precision, list_pairs
from model_stage.blocks.ragged import offsets_to_segments, segment_sum
from model_stage.blocks.registry import register
from model_stage.blocks.sequence import ListInput, ListInterest
from model_stage.blocks.simhash import SimHash

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Shape

SMALLEST_NORM = 1e-6
"""A shorter sum is divided by this instead of by its length."""


class SDIM(nn.Module):
    """Reads lists by hash collisions; see the module docstring."""

    def __init__(self, dim: int, groups: int = 16, bits: int = 3) -> None:
        super().__init__()
        self.hash = SimHash(dim, groups * bits)
        self._groups, self._bits = groups, bits
        self.out_dim = dim

    def forward(self, x: ListInput) -> ListInterest:
        """Gives u of each candidate, zeros where nothing collides, in the dtype of the input.

        The weights are no softmax, so nothing is left for what is no behavior.
        """
        list_N, num_lists, size = offsets_to_segments(x.offsets), len(x.offsets) - 1, 2**self._bits
        value_ND = full_precision(x.values_ND)
        total_BD = value_ND.new_zeros((len(x.list_B), value_ND.shape[1]))
        groups = zip(self._signatures(x.values_ND).T, self._signatures(x.candidate_BD).T, strict=True)
        for signature_N, signature_B in groups:
            bucket_ED = segment_sum(value_ND, list_N * size + signature_N, num_lists * size)
            unit_ED = nn.functional.normalize(bucket_ED, dim=1, eps=SMALLEST_NORM)
            total_BD = total_BD + unit_ED.index_select(0, x.list_B * size + signature_B)
        representation_BD, weight_M = (total_BD / self._groups).to(x.values_ND.dtype), self.weights(x)
        rest_B = weight_M.new_zeros(len(x.list_B))
        return ListInterest(representation_BD=representation_BD, weight_M=weight_M, rest_B=rest_B)

    @torch.no_grad()
    def weights(self, x: ListInput) -> Tensor:
        """Gives what each behavior is multiplied with to make u, candidate by candidate, oldest row first. (M,).

        For explanations; not a softmax, so the weights of a candidate do not sum to 1.
        """
        row_M, candidate_M = list_pairs(x.offsets, x.list_B)
        value_MD = full_precision(x.values_ND)[row_M]
        same_MG = self._signatures(x.values_ND)[row_M] == self._signatures(x.candidate_BD)[candidate_M]
        weight_M = value_MD.new_zeros(len(row_M))
        for same_M in same_MG.T:
            sum_BD = segment_sum(value_MD * same_M[:, None], candidate_M, len(x.list_B))
            weight_M += same_M / sum_BD.norm(dim=1).clamp(min=SMALLEST_NORM)[candidate_M]
        return weight_M / self._groups

    def reference(self, x: ListInput) -> Tensor:
        """The formulas, candidate by candidate and group by group; same answer as `forward`."""
        signature_NG, signature_BG = self._signatures(x.values_ND), self._signatures(x.candidate_BD)
        outputs = []
        for at, signature_G in zip(x.list_B.tolist(), signature_BG, strict=True):
            mine = slice(int(x.offsets[at]), int(x.offsets[at + 1]))
            total_D = x.values_ND.new_zeros(self.out_dim)
            for same_T in (signature_NG[mine] == signature_G).T:
                sum_D = x.values_ND[mine][same_T].sum(0)
                total_D = total_D + sum_D / torch.linalg.vector_norm(sum_D).clamp(min=SMALLEST_NORM)
            outputs.append(total_D / self._groups)
        return torch.stack(outputs)

    def _signatures(self, embedding: Tensor) -> Tensor:
        """Gives the bucket of each row in each group, int64 (rows, G)."""
        sides = self.hash.bits(embedding).view(-1, self._groups, self._bits)
        signature: Tensor = (sides.to(torch.int64) << torch.arange(self._bits, device=sides.device)).sum(2)
        return signature


@register
class SDIMConfig(ListConfig):
    """Options of the block in a preset."""

    kind: Literal["sdim"]
    groups: int = Field(ge=1)
    bits: int = Field(ge=1, le=16)

    def build(self, shape: Shape) -> ListBlock:
        """See `BlockConfig`."""
        dims = shape.representation_dim, self.groups, self.bits
        return ListBlock(self, shape, lambda positions: SDIM(*dims), positional=False)
