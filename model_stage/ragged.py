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


def segment_softmax(scores_M: Tensor, segment_M: Tensor, num_segments: int) -> Tensor:
    """Softmax within each segment, in the dtype of the scores; an empty segment has no weights. (M,)."""
    highest = scores_M.new_full((num_segments,), -torch.inf)
    highest = highest.scatter_reduce(0, segment_M, scores_M.detach(), reduce="amax", include_self=True)
    exp_M = torch.exp(scores_M - highest[segment_M])
    total = segment_sum(exp_M, segment_M, num_segments)
    return exp_M / total[segment_M]
