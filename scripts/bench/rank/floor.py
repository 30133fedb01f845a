"""The floor of a network: one attention of `tin`, forward alone, written plainly in torch.

Legend: B candidates, U behaviors of the union, K of them of each candidate, D width, N buckets of one encoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainAttention:
    """One temporal-interest attention (`model_stage/blocks/tin.py`) over lists of equal length, everything at hand."""

    query_BD: Tensor
    """v~ of the attention tables; `value_BD` of the representation tables."""
    value_BD: Tensor
    key_UD: Tensor
    item_UD: Tensor
    index_BK: Tensor
    """Rows in U of each candidate's behaviors, distinct. int64."""
    buckets: Sequence[Tensor]
    """Of each encoding, int64 (B, K)."""
    key_tables: Sequence[Tensor]
    """Of each encoding, (N, D)."""
    item_tables: Sequence[Tensor]

    def __call__(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gives the interest (B, D), the mass (B,) and the weights (B, K)."""
        score_BK = (self.query_BD @ self.key_UD.T).gather(1, self.index_BK)
        for table_ND, bucket_BK in zip(self.key_tables, self.buckets, strict=True):
            score_BK += (self.query_BD @ table_ND.T).gather(1, bucket_BK)
        score_BK /= math.sqrt(self.query_BD.shape[1])
        mass_B = torch.nn.functional.softplus(torch.logsumexp(score_BK, dim=1))
        weight_BK = torch.softmax(score_BK, dim=1)
        spread_BU = self.query_BD.new_zeros(len(self.query_BD), len(self.key_UD))
        pooled_BD = spread_BU.scatter_(1, self.index_BK, weight_BK) @ self.item_UD
        for table_ND, bucket_BK in zip(self.item_tables, self.buckets, strict=True):
            share_BN = self.query_BD.new_zeros(len(self.query_BD), len(table_ND))
            pooled_BD += share_BN.scatter_add_(1, bucket_BK, weight_BK) @ table_ND
        return pooled_BD * self.value_BD, mass_B, weight_BK


def draw_attention(num_candidates: int, union: int, own: int, dim: int, buckets: Sequence[int]) -> PlainAttention:
    """Gives an attention over random numbers.

    Args:
        num_candidates: B.
        union: U.
        own: K.
        dim: D.
        buckets: N of each encoding.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.1

    order_BU = torch.rand(num_candidates, union, generator=generator).argsort(1)
    return PlainAttention(
        query_BD=draw(num_candidates, dim),
        value_BD=draw(num_candidates, dim),
        key_UD=draw(union, dim),
        item_UD=draw(union, dim),
        index_BK=order_BU[:, :own].sort(1).values.contiguous(),
        buckets=[torch.randint(0, size, (num_candidates, own), generator=generator) for size in buckets],
        key_tables=[draw(size, dim) for size in buckets],
        item_tables=[draw(size, dim) for size in buckets],
    )
