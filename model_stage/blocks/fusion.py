"""STCA's query fusion: the next question out of all that was found before, and the candidate.

    SwiGLU(x) = (silu(x W_1) * (x W_2)) W_3
    q^(l+1)   = LN( SwiGLU( [u^1, ..., u^l, v] ) )

Source: STCA, arXiv 2511.06077; SwiGLU is that of arXiv 2002.05202. The hidden width, twice that of the question, is our
choice.

Legend: B candidates, X width of what is joined, D width of a question.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_stage.blocks.pairs import full_linear, layer_norm


class SwiGLU(nn.Module):
    """A gated layer without biases; in full precision."""

    def __init__(self, into_dim: int, out_dim: int) -> None:
        super().__init__()
        hidden = 2 * out_dim
        self.gate, self.value = (nn.Linear(into_dim, hidden, bias=False) for _ in range(2))
        self.out = nn.Linear(hidden, out_dim, bias=False)

    def forward(self, x_BX: Tensor) -> Tensor:
        """Gives (..., D)."""
        gate = nn.functional.silu(full_linear(x_BX, self.gate.weight))
        return full_linear(gate * full_linear(x_BX, self.value.weight), self.out.weight)

    def reference(self, x_X: Tensor) -> Tensor:
        """The formula for one candidate, (D,)."""
        gate_H = self.gate.weight @ x_X
        return self.out.weight @ (gate_H / (1 + torch.exp(-gate_H)) * (self.value.weight @ x_X))


class FusedQuestion(nn.Module):
    """A question out of what was found before, (..., X - D) in all, and the candidate, (..., D)."""

    def __init__(self, found_dim: int, dim: int) -> None:
        super().__init__()
        self.fuse = SwiGLU(found_dim + dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, found: Sequence[Tensor], candidate_BD: Tensor) -> Tensor:
        """Gives (..., D), in full precision."""
        return layer_norm(self.fuse(torch.cat([*found, candidate_BD], dim=-1)), self.norm)

    def reference(self, found: Sequence[Tensor], candidate_D: Tensor) -> Tensor:
        """The formula for one candidate, (D,)."""
        raw_D = self.fuse.reference(torch.cat([*found, candidate_D]))
        centred_D = raw_D - raw_D.mean()
        normal_D = centred_D / torch.sqrt((centred_D**2).mean() + self.norm.eps)
        return normal_D * self.norm.weight + self.norm.bias
