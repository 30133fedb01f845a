"""Random inputs for the operation of attention over pairs, and what its paths are compared by."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sizes:
    """What an input is made of; see the legend of `pair_attention`."""

    lengths: Sequence[int]
    keys: int = 1
    values: int = 1
    attentions: int = 2
    rows: int = 5
    width: int = 4
    value_width: int = 3
    buckets: int = 6
    encodings: int = 2


def inputs(sizes: Sizes, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Gives the arguments of `attend`; the floats need gradients."""
    generator = torch.Generator().manual_seed(seed)
    num_pairs, num_candidates = sum(sizes.lengths), len(sizes.lengths)

    def draw(*shape: int) -> torch.Tensor:
        return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()

    return [
        draw(sizes.attentions, num_candidates, sizes.width),
        draw(sizes.rows, sizes.keys, sizes.width),
        draw(sizes.attentions, num_candidates, sizes.buckets),
        draw(sizes.rows, sizes.values, sizes.value_width),
        torch.randint(sizes.rows, (num_pairs,), generator=generator).int(),
        torch.tensor([0, *itertools.accumulate(sizes.lengths)]),
        torch.randint(max(sizes.buckets, 1), (sizes.encodings, num_pairs), generator=generator).int(),
    ]


def gradients(found: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Gives the gradients of a mixture of all outputs."""
    mixed = sum((o * torch.linspace(-1, 1, o.numel(), dtype=o.dtype, device=o.device).view_as(o)).sum() for o in found)
    made = torch.autograd.grad(mixed, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, made, strict=True)]
