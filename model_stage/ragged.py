"""Ragged batches: values (N, D) with offsets (B + 1), and the segment operations on them.

Legend: M retrieved (candidate, behavior) pairs, B candidates, D width. `segment_M` gives each pair's candidate.
"""

from __future__ import annotations

import torch
from torch import Tensor


def offsets_to_segments(offsets: Tensor) -> Tensor:
    """Gives the segment number of each value: offsets [0, 2, 2, 3] -> [0, 0, 2]. int64 (N,)."""
    lengths = offsets[1:] - offsets[:-1]
    return torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)


def segment_sum(values_MD: Tensor, segment_M: Tensor, num_segments: int) -> Tensor:
    """Sums the rows of each segment; an empty segment gives zeros. (num_segments, D)."""
    out = values_MD.new_zeros((num_segments, *values_MD.shape[1:]))
    return out.index_add(0, segment_M, values_MD)


def segment_softmax(scores_M: Tensor, segment_M: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """Softmax within each segment, and how much there was to attend to.

    Returns:
        The weights (M,), which sum to 1 in every segment that has any; and log(1 + sum exp(score)) of each segment
        (num_segments,), 0 for an empty one. Both in the dtype of the scores; neither overflows.
    """
    highest = scores_M.new_full((num_segments,), -torch.inf)
    highest = highest.scatter_reduce(0, segment_M, scores_M.detach(), reduce="amax", include_self=True)
    exp_M = torch.exp(scores_M - highest.index_select(0, segment_M))
    total = segment_sum(exp_M, segment_M, num_segments)
    shift = highest.clamp(min=0.0)
    mass = shift + torch.log(torch.exp(-shift) + total * torch.exp(highest - shift))
    return exp_M / total.index_select(0, segment_M), mass
