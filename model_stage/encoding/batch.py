"""Encoded requests and the batches the network reads: arrays of rows and numbers, ragged, without padding.

Legend: U behaviors of the union, M pairs, C candidates of one request; R requests, B candidates of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from store.lists import Lists, spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from store.types import F32, I32, I64, U8, AnyArray

V = TypeVar("V", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRequest:
    """One request as arrays of rows and numbers."""

    behavior_node: I32
    """Row in the tree vocabulary. (U,)"""
    behavior_side: I32
    """Rows of the schema's behavior fields. (U, number of fields)"""
    interval_ms: I64
    """As-of time less the behavior's time. (U,)"""
    pair_behavior: I32
    """Row in U. (M,)"""
    match_level: U8
    """(M,)"""
    source: U8
    """Bits `SOURCE_HARD`, `SOURCE_SOFT`, `SOURCE_RECENT`. (M,)"""
    offsets: I64
    """Pairs of each candidate, oldest first. (C + 1,)"""
    same_as: I32
    """The first candidate with the same pairs as this one, itself when there is none before it. (C,)"""
    num_newest: int
    """The last so many rows of U are the user's newest behaviors, the same whatever the candidates."""
    candidate_node: I32
    """(C,)"""
    categorical: I32
    """Rows of the categorical and bucketed fields, user's and context's repeated. (C, number of fields)"""
    multi_valued: tuple[Lists[np.int64], ...] = ()
    """Rows of each multi-valued field, user's and context's repeated; C lists each."""
    dense: F32
    """Numeric fields, match statistics and totals, transformed, not standardised; NaN = missing. (C, S)"""

    def take(self, chosen: I64) -> EncodedRequest:
        """Gives the request with these candidates only, in this order."""
        pairs, offsets = rows_of_spans(self.offsets, chosen)
        _, first, number = np.unique(self.same_as[chosen], return_index=True, return_inverse=True)
        return replace(
            self,
            pair_behavior=self.pair_behavior[pairs],
            match_level=self.match_level[pairs],
            source=self.source[pairs],
            offsets=offsets,
            same_as=first[number].astype(np.int32),
            candidate_node=self.candidate_node[chosen],
            categorical=self.categorical[chosen],
            multi_valued=tuple(lists[chosen] for lists in self.multi_valued),
            dense=self.dense[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests put together for the network; ragged, without padding, in the types that the encoder gives.

    The behaviors of a request, and the pairs of a candidate, stand side by side, the oldest first. What depends on a
    behavior alone is kept once per row of the union U.
    """

    behavior_node_U: Tensor
    """int32."""
    behavior_side_UF: Tensor
    """int32."""
    interval_ms_U: Tensor
    """As-of time less the behavior's time. int64."""
    behavior_offsets: Tensor
    """Rows of U of each request. int64, one more than requests."""
    num_newest: Tensor
    """The last so many rows of U of each request are its user's newest behaviors. int64, one per request."""
    behavior_M: Tensor
    """Row in U of each pair. int32."""
    match_level_M: Tensor
    """uint8."""
    source_M: Tensor
    """uint8."""
    pair_offsets: Tensor
    """Pairs of each candidate. int64 (B + 1,)."""
    same_as_B: Tensor
    """The first candidate with the same pairs, of the same request: itself when there is none before it. int64."""
    request_B: Tensor
    """Request of each candidate: candidates of one request share a user and a time. int64."""
    candidate_node_B: Tensor
    """int32."""
    categorical_BF: Tensor
    """int32."""
    multi_valued: tuple[tuple[Tensor, Tensor], ...]
    """Of each multi-valued field: rows (X,), and where each candidate's list begins in them, and the end (B + 1,)."""
    dense_BS: Tensor
    """float32, NaN = missing."""

    @property
    def candidate_M(self) -> Tensor:
        """Candidate of each pair, ascending. int64; made at every call."""
        lengths_B = self.pair_offsets.diff()
        return torch.repeat_interleave(torch.arange(len(lengths_B), device=lengths_B.device), lengths_B)

    @property
    def rank_M(self) -> Tensor:
        """Place of each pair in its candidate's list, 1 = the newest behavior. int64; made at every call."""
        end_M = self.pair_offsets[1:].index_select(0, self.candidate_M)
        return end_M - torch.arange(len(end_M), device=end_M.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestColumns:
    """Encoded requests as flat columns, one request after another: what a batch is made of, and what training keeps.

    Two requests with three candidates::

        behavior_offsets   0       2       4       R = 2, U = 4
        candidate_offsets  0       2       3       C = 3
        pair_offsets       0   2   3       5       M = 5
        pair_behavior      0 1 1   0 1             rows among the behaviors of the candidate's own request
        same_as            0   1   0               candidates of the same request

    The columns without a word are those of `EncodedRequest`.
    """

    behavior_offsets: I64
    """Behaviors of each request. (R + 1,)"""
    candidate_offsets: I64
    """Candidates of each request. (R + 1,)"""
    pair_offsets: I64
    """Pairs of each candidate. (C + 1,)"""
    num_newest: I64
    """(R,)"""
    behavior_node: I32
    behavior_side: I32
    interval_ms: I64
    pair_behavior: I32
    match_level: U8
    source: U8
    same_as: I32
    candidate_node: I32
    categorical: I32
    multi_valued: tuple[tuple[I64, I64], ...]
    """Of each multi-valued field: rows (X,), and where each candidate's list begins in them, and the end (C + 1,)."""
    dense: F32

    def __len__(self) -> int:
        return len(self.candidate_offsets) - 1

    @staticmethod
    def of(requests: Sequence[EncodedRequest]) -> RequestColumns:
        """Gives the columns of some requests, at least one; those of a single one are its own arrays."""
        multi_valued = zip(*(r.multi_valued for r in requests), strict=True)
        return RequestColumns(
            behavior_offsets=_ends([len(r.behavior_node) for r in requests]),
            candidate_offsets=_ends([len(r.candidate_node) for r in requests]),
            pair_offsets=joined_offsets([r.offsets for r in requests]),
            num_newest=np.array([r.num_newest for r in requests], np.int64),
            behavior_node=joined([r.behavior_node for r in requests]),
            behavior_side=joined([r.behavior_side for r in requests]),
            interval_ms=joined([r.interval_ms for r in requests]),
            pair_behavior=joined([r.pair_behavior for r in requests]),
            match_level=joined([r.match_level for r in requests]),
            source=joined([r.source for r in requests]),
            same_as=joined([r.same_as for r in requests]),
            candidate_node=joined([r.candidate_node for r in requests]),
            categorical=joined([r.categorical for r in requests]),
            multi_valued=tuple(
                (joined([each.values for each in lists]), joined_offsets([each.offsets for each in lists]))
                for lists in multi_valued
            ),
            dense=joined([r.dense for r in requests]),
        )

    def take(self, requests: I64, candidates: I64, candidate_offsets: I64) -> RequestColumns:
        """Gives some candidates of some requests, each request with all of its behaviors. Copies.

        Args:
            requests: In any order; one that is asked for twice is there twice. (P,)
            candidates: Rows of the candidates of each of them. (B,)
            candidate_offsets: Where those of each request begin among them, and the end. (P + 1,)
        """
        behaviors, behavior_offsets = rows_of_spans(self.behavior_offsets, requests)
        pairs, pair_offsets = rows_of_spans(self.pair_offsets, candidates)
        lengths = np.diff(candidate_offsets)
        place = np.repeat(np.arange(len(requests)) << 32, lengths) + self.same_as.take(candidates)
        _, first, number = np.unique(place, return_index=True, return_inverse=True)
        return RequestColumns(
            behavior_offsets=behavior_offsets,
            candidate_offsets=candidate_offsets,
            pair_offsets=pair_offsets,
            num_newest=self.num_newest.take(requests),
            behavior_node=self.behavior_node.take(behaviors),
            behavior_side=self.behavior_side.take(behaviors, axis=0),
            interval_ms=self.interval_ms.take(behaviors),
            pair_behavior=self.pair_behavior.take(pairs),
            match_level=self.match_level.take(pairs),
            source=self.source.take(pairs),
            same_as=(first[number] - np.repeat(candidate_offsets[:-1], lengths)).astype(np.int32),
            candidate_node=self.candidate_node.take(candidates),
            categorical=self.categorical.take(candidates, axis=0),
            multi_valued=tuple(_take_lists(*lists, candidates) for lists in self.multi_valued),
            dense=self.dense.take(candidates, axis=0),
        )

    def batch(self) -> Batch:
        """Gives all of it as a batch that shares its memory; the rows of pairs are shifted where there are several."""
        lengths, behavior_M = np.diff(self.candidate_offsets), self.pair_behavior
        if len(self) > 1:
            pairs = np.diff(self.pair_offsets[self.candidate_offsets])
            behavior_M = behavior_M + np.repeat(self.behavior_offsets[:-1].astype(np.int32), pairs)
        return Batch(
            behavior_node_U=tensor(self.behavior_node),
            behavior_side_UF=tensor(self.behavior_side),
            interval_ms_U=tensor(self.interval_ms),
            behavior_offsets=tensor(self.behavior_offsets),
            num_newest=tensor(self.num_newest),
            behavior_M=tensor(behavior_M),
            match_level_M=tensor(self.match_level),
            source_M=tensor(self.source),
            pair_offsets=tensor(self.pair_offsets),
            same_as_B=torch.from_numpy(self.same_as + np.repeat(self.candidate_offsets[:-1], lengths)),
            request_B=torch.from_numpy(np.repeat(np.arange(len(self)), lengths)),
            candidate_node_B=tensor(self.candidate_node),
            categorical_BF=tensor(self.categorical),
            multi_valued=tuple((tensor(rows), tensor(offsets)) for rows, offsets in self.multi_valued),
            dense_BS=tensor(self.dense),
        )


def collate(requests: Sequence[EncodedRequest]) -> Batch:
    """Puts requests together; row numbers are shifted, nothing is padded. Of a single request nothing is copied."""
    return RequestColumns.of(requests).batch()


def tensor(array: AnyArray) -> Tensor:
    """Gives an array as a tensor that shares its memory; what reads it writes nothing into it.

    `torch.from_numpy` warns of arrays that may not be written, such as mapped files and parts of messages.
    """
    return torch.from_numpy(array) if array.flags.writeable else from_dlpack(array)


def joined(arrays: Sequence[npt.NDArray[V]]) -> npt.NDArray[V]:
    """Gives arrays one after another; a single one as it is."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def joined_offsets(parts: Sequence[I64]) -> I64:
    """Gives the offsets of lists one after another, from those of each part; those of a single one as they are."""
    if len(parts) == 1:
        return parts[0]
    firsts = _ends([int(offsets[-1]) for offsets in parts])[:-1].tolist()
    shifted = [offsets[1:] + first for offsets, first in zip(parts, firsts, strict=True)]
    return np.concatenate((np.zeros(1, np.int64), *shifted))


def rows_of_spans(offsets: I64, lists: I64) -> tuple[I64, I64]:
    """Gives the rows of some lists, one list after another, and where each begins among them, and the end."""
    starts = offsets[lists]
    return spans(starts, offsets[lists + 1] - starts)


def _take_lists(rows: I64, offsets: I64, lists: I64) -> tuple[I64, I64]:
    at, taken = rows_of_spans(offsets, lists)
    return rows[at], taken


def _ends(lengths: Sequence[int]) -> I64:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)))
