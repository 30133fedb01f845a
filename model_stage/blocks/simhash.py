"""SimHash codes: which side of random planes an embedding lies on.

    code bit b = [ <e, plane_b> >= 0 ]          P(bits of two embeddings differ) = their angle / pi

Source: Charikar 2002, as ETA (arXiv 2108.04468) and SDIM (arXiv 2205.10249) use it.

Legend: N rows, D width, K bits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MAX_BITS = 63
"""A code is one non-negative int64."""

_PAIRS = 0x5555555555555555
_FOURS = 0x3333333333333333
_BYTES = 0x0F0F0F0F0F0F0F0F
_ONES = 0x0101010101010101


class SimHash(nn.Module):
    """Codes of embeddings under planes drawn once, at birth, from torch's generator; they are saved, never trained."""

    planes_DK: Tensor

    def __init__(self, dim: int, bits: int) -> None:
        super().__init__()
        if not 1 <= bits <= MAX_BITS:
            raise ValueError(f"bits: {bits} is not in 1 .. {MAX_BITS}")
        # Exact in bfloat16, so that a model cast to it and back keeps its codes.
        self.register_buffer("planes_DK", torch.randn(dim, bits).to(torch.bfloat16).to(torch.float32))

    @torch.no_grad()
    def bits(self, embedding_ND: Tensor) -> Tensor:
        """Gives the sides, bool (N, K). No gradient passes."""
        # float64, so that what else is in the batch, and with it the order of the sums, does not turn a bit.
        return embedding_ND.to(torch.float64) @ self.planes_DK.to(torch.float64) >= 0

    def forward(self, embedding_ND: Tensor) -> Tensor:
        """Gives the codes, bit b with weight 2^b. int64 (N,)."""
        sides_NK = self.bits(embedding_ND)
        return (sides_NK.to(torch.int64) << torch.arange(sides_NK.shape[1], device=sides_NK.device)).sum(1)


def hamming(left_N: Tensor, right_N: Tensor) -> Tensor:
    """Gives the number of bits in which codes differ. int64 (N,).

    Bits of the exclusive or are counted in pairs, fours and bytes at once, and the bytes added by one product.
    """
    differ = left_N ^ right_N
    differ = differ - ((differ >> 1) & _PAIRS)
    differ = (differ & _FOURS) + ((differ >> 2) & _FOURS)
    differ = (differ + (differ >> 4)) & _BYTES
    return (differ * _ONES) >> 56


def hamming_reference(left_NK: Tensor, right_NK: Tensor) -> Tensor:
    """The twin of `hamming`, on the sides themselves, bool (N, K)."""
    return (left_NK != right_NK).sum(1)
