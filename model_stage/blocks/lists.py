"""The sequences that the blocks over lists read, each once, and where the pairs of the batch stand in them.

    scope list    what a candidate retrieved; candidates that retrieved the same share a list
    scope union   the user's newest behaviors, the newest rows of the union, for all candidates of a request; all of
                  them are the whole history

The rows of the union that a candidate retrieved depend on that candidate, and those beside them on the others. The
newest so many rows are there whatever the candidates (`SearchRequest.newest`), so a score that reads them and no other
depends on its own candidate alone.

Legend: M pairs, U behaviors of the union, N rows of L lists, B candidates, P (candidate, row of its list) pairs, J
table sets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model_stage.blocks.ragged import lengths_to_offsets, offsets_to_segments, span_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The lists of a batch.

    pairs of 3 candidates: [a b] [c] [a b]  ->  rows: a b | c    offsets 0 2 3    list_B 0 1 0
    """

    behavior_N: Tensor
    """Row in U of each row, oldest first within a list. int64."""
    offsets: Tensor
    """Rows of each list. int64 (L + 1,)."""
    list_B: Tensor
    """The list of each candidate. int64."""
    candidate_L: Tensor
    """A candidate of each list, so that what is said of the user can be gathered to lists. int64."""
    pair_offsets: Tensor
    """Pairs of each candidate. int64 (B + 1,)."""
    pair_N: Tensor | None = None
    """A pair that stands for each row, where a candidate's pairs are the rows of its list. int64."""
    place_M: Tensor | None = None
    """Otherwise the place of each pair in its candidate's list, 0 = the oldest row, negative = it is not there."""

    @property
    def rank_N(self) -> Tensor:
        """Place of each row in its list, 1 = the newest. int64."""
        end_N = self.offsets[1:].index_select(0, offsets_to_segments(self.offsets))
        return end_N - torch.arange(len(end_N), device=end_N.device)

    def on_pairs(self, weight_P: Tensor, rest_B: Tensor) -> tuple[Tensor, Tensor]:
        """Gives what candidates' attention is on their pairs, (M,), and on everything else, (B,).

        Args:
            weight_P: On the rows of the candidate's list, candidate by candidate.
            rest_B: On what is no row.
        """
        if self.place_M is None:
            return weight_P, rest_B
        offsets = lengths_to_offsets(self.offsets.diff()[self.list_B])
        weight_M = self._placed(weight_P, offsets[:-1], self.place_M)
        return weight_M, rest_B + _sums(weight_P, offsets) - _sums(weight_M, self.pair_offsets)

    def rows_on_pairs(self, weight_NJ: Tensor) -> tuple[Tensor, Tensor]:
        """Gives what lists' attention, 1 over each list, is on the candidates' pairs, (M, J), and the rest, (B, J)."""
        place_M = span_rows(torch.zeros_like(self.list_B), self.pair_offsets) if self.place_M is None else self.place_M
        weight_MJ = self._placed(weight_NJ, self.offsets[self.list_B], place_M)
        return weight_MJ, 1.0 - _sums(weight_MJ, self.pair_offsets)

    def asked(self, weight_P: Tensor, start_B: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the same as `on_pairs` of a softmax over newest behaviors, where candidates share their questions.

        Args:
            weight_P: On the rows of each question's list, question by question.
            start_B: Where in it those of each candidate's question begin. int64.
        """
        assert self.place_M is not None
        weight_M = self._placed(weight_P, start_B, self.place_M)
        return weight_M, 1.0 - _sums(weight_M, self.pair_offsets)

    def part(self, start: int, stop: int) -> Lists:
        """Gives the same lists, of newest behaviors, with some of the candidates that read them."""
        assert self.place_M is not None
        pair_offsets = self.pair_offsets[start : stop + 1]
        first, last = int(pair_offsets[0]), int(pair_offsets[-1])
        return replace(
            self,
            list_B=self.list_B[start:stop],
            pair_offsets=pair_offsets - first,
            place_M=self.place_M[first:last],
        )

    def _placed(self, values: Tensor, start_B: Tensor, place_M: Tensor) -> Tensor:
        """Gives the value of each pair: that at its place after its candidate's start, 0 where it has none."""
        at_M = torch.repeat_interleave(start_B, self.pair_offsets.diff()) + place_M.clamp(min=0)
        there = (place_M >= 0).view(-1, *[1] * (values.dim() - 1))
        padded = values if len(values) else values.new_zeros(1, *values.shape[1:])  # no row: nothing is there
        return padded.index_select(0, at_M.clamp(max=len(padded) - 1)).where(there, 0.0)


def retrieved_lists(same_as_B: Tensor, behavior_M: Tensor, pair_offsets: Tensor) -> Lists:
    """Gives the lists that candidates retrieved.

    Args:
        same_as_B: The first candidate with the same pairs, itself when there is none before it. int64.
        behavior_M: Row in U of each pair.
        pair_offsets: Pairs of each candidate. int64 (B + 1,).
    """
    itself_B = torch.arange(len(same_as_B), device=same_as_B.device)
    is_first_B = same_as_B == itself_B
    (candidate_L,) = torch.where(is_first_B)
    offsets = lengths_to_offsets(pair_offsets.diff()[candidate_L])
    pair_N = span_rows(pair_offsets[candidate_L], offsets)
    return Lists(
        behavior_N=behavior_M.index_select(0, pair_N),
        offsets=offsets,
        list_B=(is_first_B.cumsum(0) - 1)[same_as_B],
        candidate_L=candidate_L,
        pair_offsets=pair_offsets,
        pair_N=pair_N,
    )


def newest_lists(
    end_L: Tensor, num_newest: Tensor, newest: int, request_B: Tensor, behavior_M: Tensor, pair_offsets: Tensor
) -> Lists:
    """Gives the newest behaviors of each request's user.

    Args:
        end_L: Where the rows of each request end in U. int64.
        num_newest: The last so many rows of each request are its user's newest. int64 (L,).
        newest: So many at most.
        request_B: Request of each candidate, ascending. int64.
        behavior_M: Row in U of each pair.
        pair_offsets: Pairs of each candidate. int64 (B + 1,).
    """
    length_L = num_newest.clamp(max=newest)
    first_L, offsets = end_L - length_L, lengths_to_offsets(length_L)
    last = max(len(request_B) - 1, 0)
    first_M = torch.repeat_interleave(first_L[request_B], pair_offsets.diff())
    return Lists(
        behavior_N=span_rows(first_L, offsets),
        offsets=offsets,
        list_B=request_B,
        candidate_L=torch.searchsorted(request_B, torch.arange(len(end_L), device=end_L.device)).clamp(max=last),
        pair_offsets=pair_offsets,
        place_M=behavior_M - first_M,
    )


def _sums(values: Tensor, offsets: Tensor) -> Tensor:
    """Gives the sum of each segment's values, over the first axis."""
    return torch.segment_reduce(values, "sum", lengths=offsets.diff(), axis=0, unsafe=True, initial=0.0)
