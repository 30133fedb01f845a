"""Ragged batches: values (N, D) with offsets (B + 1), and the segment operations on them.

Two forms. Pairs: M retrieved (candidate, behavior) pairs, sorted by candidate and oldest first; `segment_M` gives each
pair's candidate. Lists: N rows of L distinct lists, oldest first, with offsets (L + 1) and the list of each candidate
(B,). Blocks that must compare the rows of a list with one another lay lists of about the same length out as rectangles
(`Bucket`), inside the block only.

Legend: M pairs, B candidates or queries, N rows of lists, L lists, T cells per list, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DistinctLists:
    """The lists of a batch, each kept once: candidates that retrieved the same behaviors share a list.

    pairs of 3 candidates: [a b] [c] [a b]  ->  rows: a b | c    offsets 0 2 3    list_B 0 1 0
    """

    pair_N: Tensor
    """A pair that stands for each row, so that any column of pairs can be gathered to rows. int64."""
    offsets: Tensor
    """Rows of each list. int64 (L + 1,)."""
    list_B: Tensor
    """The list of each candidate. int64."""
    candidate_L: Tensor
    """The first candidate of each list, so that what is said of the user can be gathered to lists. int64."""


def distinct_lists(columns: Sequence[Tensor], candidate_M: Tensor, request_B: Tensor) -> DistinctLists:
    """Finds the candidates whose lists are equal in every column; exact, no hashing.

    Args:
        columns: What a block will read of a pair (row in U, match level ...), int64 (M,) each, on the CPU.
        candidate_M: Candidate of each pair, ascending. int64.
        request_B: Request of each candidate; candidates of different requests never share a list, not even the empty
            one. int64.
    """
    num_candidates = len(request_B)
    ends = torch.bincount(candidate_M, minlength=num_candidates).cumsum(0).tolist()
    rows_MK = torch.stack([*columns, candidate_M], dim=1)[:, :-1].contiguous().numpy()
    requests = request_B.tolist()
    found: dict[tuple[int, bytes], int] = {}
    list_of: list[int] = []
    first: list[int] = []
    spans: list[tuple[int, int]] = []
    start = 0
    for candidate, end in enumerate(ends):
        key = (requests[candidate], rows_MK[start:end].tobytes())
        number = found.setdefault(key, len(found))
        if number == len(first):
            first.append(candidate)
            spans.append((start, end))
        list_of.append(number)
        start = end
    lengths = torch.tensor([end - start for start, end in spans], dtype=torch.int64)
    return DistinctLists(
        pair_N=torch.cat([torch.arange(start, end) for start, end in spans] or [lengths]),
        offsets=lengths_to_offsets(lengths),
        list_B=torch.tensor(list_of, dtype=torch.int64),
        candidate_L=torch.tensor(first, dtype=torch.int64),
    )


def lengths_to_offsets(lengths: Tensor) -> Tensor:
    """Gives [2, 0, 1] -> [0, 2, 2, 3]. int64 (L + 1,)."""
    return nn.functional.pad(lengths.cumsum(0), (1, 0))


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

    @property
    def width(self) -> int:
        """Cells per list."""
        return self.row_LT.shape[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Lists of about the same length and number of queries, as wide as the longest, less than twice the shortest."""

    list_L: Tensor
    rows: Cells
    queries: Cells


def cells(start_L: Tensor, length_L: Tensor, width: int) -> Cells:
    """Lays rows start .. start + length of each list out in `width` cells."""
    column_T = torch.arange(width, device=start_L.device)
    inside_LT = torch.minimum(column_T, (length_L[:, None] - 1).clamp(min=0))
    return Cells(row_LT=start_L[:, None] + inside_LT, valid_LT=column_T < length_L[:, None])


def buckets_of(offsets: Tensor, list_B: Tensor) -> list[Bucket]:
    """Groups the lists that have queries: in a group no length, and no number of queries, is twice another.

    Args:
        offsets: Rows of each list. int64 (L + 1,).
        list_B: The list that each query reads. int64.

    Returns:
        Buckets that hold every query once; an empty list has rows of width 0.
    """
    length_L = offsets[1:] - offsets[:-1]
    count_L = torch.bincount(list_B, minlength=len(length_L))
    order_B, first_L = torch.argsort(list_B, stable=True), lengths_to_offsets(count_L)[:-1]
    shape_L2 = torch.stack([_round_up(length_L), _round_up(count_L)], dim=1)
    found = []
    for shape in torch.unique(shape_L2[count_L > 0], dim=0):
        (mine_L,) = torch.where((shape_L2 == shape).all(1))
        width, num_queries = int(length_L[mine_L].max()), int(count_L[mine_L].max())
        queries = cells(first_L[mine_L], count_L[mine_L], num_queries)
        found.append(
            Bucket(
                list_L=mine_L,
                rows=cells(offsets[mine_L], length_L[mine_L], width),
                queries=replace(queries, row_LT=gather(order_B, queries.row_LT)),
            )
        )
    return found


def from_cells(pieces: Sequence[tuple[Cells, Tensor]], num_rows: int) -> Tensor:
    """Puts the valid cells of every piece back where they came from; a row that no cell holds is zero.

    Args:
        pieces: Cells, and their values (L, T, ...).
        num_rows: Rows of the answer.
    """
    order = torch.cat([cell.row_LT[cell.valid_LT] for cell, _ in pieces])
    rows = torch.cat([values[cell.valid_LT] for cell, values in pieces])
    return rows.new_zeros((num_rows, *rows.shape[1:])).index_copy(0, order, rows)


def _round_up(count: Tensor) -> Tensor:
    """Gives the next power of two; 0 stays 0."""
    return torch.where(count > 0, 2 ** torch.ceil(torch.log2(count.clamp(min=1).double())).long(), 0)
