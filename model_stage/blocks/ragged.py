"""Ragged batches: values (N, D) with offsets (B + 1), and the segment operations on them.

Two forms. Pairs: M retrieved (candidate, behavior) pairs, sorted by candidate and oldest first; `segment_M` gives each
pair's candidate. Lists: N rows of L distinct lists, oldest first, with offsets (L + 1) and the list of each candidate
(B,). Blocks that must compare the rows of a list with one another lay lists of about the same length out as rectangles
(`Layout`), inside the block only.

Legend: M pairs, B candidates or queries, N rows of lists, L lists, T cells per list, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def lengths_to_offsets(lengths: Tensor) -> Tensor:
    """Gives [2, 0, 1] -> [0, 2, 2, 3]. int64 (L + 1,)."""
    return nn.functional.pad(lengths.cumsum(0), (1, 0))


def span_rows(start_L: Tensor, offsets: Tensor) -> Tensor:
    """Gives lists of consecutive numbers, one after another: starts [5, 0], offsets [0, 2, 3] -> [5, 6, 0].

    Args:
        start_L: First number of each list. int64.
        offsets: Where each list begins in the answer, and the end. int64 (L + 1,).
    """
    lengths = offsets.diff()
    shift_N = torch.repeat_interleave(start_L - offsets[:-1], lengths)
    return shift_N + torch.arange(len(shift_N), device=offsets.device)


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Gives `values[index]` for an index of any shape; its backward adds rows instead of sorting indices."""
    return values.index_select(0, index.flatten()).view(*index.shape, *values.shape[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """A ragged thing laid out as a rectangle; a cell beyond the end repeats the last row of its own list.

    So a padded cell holds nothing that its list does not hold already: whatever a mistake there let through, it could
    not come from another list.
    """

    row_LT: Tensor
    """int64."""
    valid_LT: Tensor
    """bool."""
    whole: bool = False
    """One list that is all there is, in its order."""

    @property
    def width(self) -> int:
        """Cells per list."""
        return self.row_LT.shape[1]

    def of(self, values: Tensor) -> Tensor:
        """Gives the value of each cell, (L, T, ...), from those of the rows, (N, ...)."""
        return values[None] if self.whole else gather(values, self.row_LT)

    def hide(self, scores: Tensor) -> Tensor:
        """Gives scores (L, ..., T) with minus infinity beyond the end of each list."""
        if self.whole:
            return scores
        beyond = ~self.valid_LT.view(len(self.valid_LT), *[1] * (scores.dim() - 2), self.width)
        return scores.masked_fill(beyond, -torch.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Lists of about the same length and number of queries, as wide as the longest, less than twice the shortest."""

    list_L: Tensor
    rows: Cells
    queries: Cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Lists as rectangles, and where each of their rows and queries stands in them.

    The cells of all buckets are numbered one after another; a bucket's values are (L, T, ...) of its rows or
    (L, C, ...) of its queries.
    """

    buckets: tuple[Bucket, ...]
    """They hold every query once; an empty list has rows of width 0."""
    offsets: Tensor
    list_B: Tensor
    place_B: Tensor
    """Place of each query among those of its list. int64."""
    cell_B: Tensor
    """Cell of each query. int64."""

    @staticmethod
    def of(offsets: Tensor, list_B: Tensor) -> Layout:
        """Groups the lists that have queries: in a bucket no length, and no number of queries, is twice another.

        Args:
            offsets: Rows of each list. int64 (L + 1,).
            list_B: The list that each query reads. int64.
        """
        if len(offsets) == 2:
            return Layout._of_one(offsets, list_B)
        length_L = offsets.diff()
        count_L = torch.bincount(list_B, minlength=len(length_L))
        order_B, first_L = torch.argsort(list_B, stable=True), lengths_to_offsets(count_L)
        buckets = []
        for mine_L in _groups(length_L, count_L):
            lengths, counts = length_L[mine_L], count_L[mine_L]
            places = cells(first_L[mine_L], counts, int(counts.max()))
            buckets.append(
                Bucket(
                    list_L=mine_L,
                    rows=cells(offsets[mine_L], lengths, int(lengths.max())),
                    queries=Cells(row_LT=gather(order_B, places.row_LT), valid_LT=places.valid_LT),
                )
            )
        place_B = torch.empty_like(order_B).index_copy(0, order_B, span_rows(torch.zeros_like(count_L), first_L))
        start_L = _starts(buckets, [bucket.queries.width for bucket in buckets], count_L)
        return Layout(
            buckets=tuple(buckets), offsets=offsets, list_B=list_B, place_B=place_B, cell_B=start_L[list_B] + place_B
        )

    @staticmethod
    def _of_one(offsets: Tensor, list_B: Tensor) -> Layout:
        """The same for a single list, as of a single request: nothing has to be moved."""
        row_T = torch.arange(int(offsets[1]), device=offsets.device)
        query_C = torch.arange(len(list_B), device=offsets.device)
        rows, queries = (
            Cells(row_LT=index[None], valid_LT=torch.ones_like(index[None], dtype=torch.bool), whole=True)
            for index in (row_T, query_C)
        )
        buckets = (Bucket(list_L=list_B[:1], rows=rows, queries=queries),) if len(list_B) else ()
        return Layout(buckets=buckets, offsets=offsets, list_B=list_B, place_B=query_C, cell_B=query_C)

    @staticmethod
    def of_lists(offsets: Tensor) -> Layout:
        """Lays every list out, with one query each."""
        return Layout.of(offsets, torch.arange(len(offsets) - 1, device=offsets.device))

    def rows(self, values: Sequence[Tensor], offsets: Tensor | None = None) -> Tensor:
        """Gives what is known of each bucket's rows, (L, T, ...), list by list without the padding, (N, ...).

        Every list must have queries.

        Args:
            values: Per bucket.
            offsets: Where the first cells of each list go, and the end; None = all its rows to where they came from.
        """
        if len(self.offsets) == 2:
            return values[0].squeeze(0)
        offsets = self.offsets if offsets is None else offsets
        start_L = _starts(self.buckets, [value.shape[1] for value in values], offsets[:-1])
        return _flat(values).index_select(0, span_rows(start_L, offsets))

    def queries(self, values: Sequence[Tensor]) -> Tensor:
        """Gives what is known of each bucket's queries, (L, C, ...), by query, (B, ...)."""
        return values[0].squeeze(0) if len(self.offsets) == 2 else _flat(values).index_select(0, self.cell_B)

    def pairs(self, values: Sequence[Tensor]) -> Tensor:
        """Gives what is known of each bucket's queries and rows, (L, C, T or more), query by query, oldest row first.

        Cells beyond T are left out.
        """
        if len(self.offsets) == 2:
            return values[0][0, :, : self.buckets[0].rows.width].flatten()
        length_L, stride_L = self.offsets.diff(), torch.empty_like(self.offsets[1:])
        for bucket, value in zip(self.buckets, values, strict=True):
            stride_L.index_fill_(0, bucket.list_L, value.shape[2])
        start_L = _starts(self.buckets, [value.shape[1] * value.shape[2] for value in values], length_L)
        start_B = start_L[self.list_B] + self.place_B * stride_L[self.list_B]
        pair_N = span_rows(start_B, lengths_to_offsets(length_L[self.list_B]))
        return _flat([value.flatten(0, 1) for value in values]).index_select(0, pair_N)


def cells(start_L: Tensor, length_L: Tensor, width: int) -> Cells:
    """Lays rows start .. start + length of each list out in `width` cells."""
    column_T = torch.arange(width, device=start_L.device)
    inside_LT = torch.minimum(column_T, (length_L[:, None] - 1).clamp(min=0))
    return Cells(row_LT=start_L[:, None] + inside_LT, valid_LT=column_T < length_L[:, None])


def _starts(buckets: Sequence[Bucket], sizes: Sequence[int], like_L: Tensor) -> Tensor:
    """Gives the first cell of each list, where a list of a bucket has this many. int64 (L,)."""
    start_L, before = torch.empty_like(like_L), 0
    for bucket, size in zip(buckets, sizes, strict=True):
        at_L = torch.arange(len(bucket.list_L), device=like_L.device)
        start_L.index_copy_(0, bucket.list_L, before + at_L * size)
        before += len(bucket.list_L) * size
    return start_L


def _flat(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.flatten(0, 1) for value in values])


def _groups(length_L: Tensor, count_L: Tensor) -> Sequence[Tensor]:
    """Gives the lists of each bucket; those without queries are in none."""
    (read_K,) = torch.where(count_L > 0)
    if len(read_K) < 2:
        return [read_K] * len(read_K)
    shape_K = _power(length_L[read_K]) * 64 + _power(count_L[read_K])
    _, bucket_K, sizes = torch.unique(shape_K, return_inverse=True, return_counts=True)
    return torch.split(read_K[torch.argsort(bucket_K, stable=True)], sizes.tolist())


def _power(count: Tensor) -> Tensor:
    """Gives n of the smallest 2**n that is not below a count, and one more, up to 63; 0 of 0."""
    return torch.where(count > 0, 1 + torch.ceil(torch.log2(count.clamp(min=1).double())).long(), 0)
