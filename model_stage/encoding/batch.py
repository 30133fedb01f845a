"""Encoded requests and the batches the network reads: arrays of rows and numbers, ragged, without padding.

Legend: U behaviors of the union, M pairs, C candidates of one request; B candidates of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from store.lists import Lists, spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from store.types import F32, I32, I64, U8, AnyArray


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
        pairs, offsets = spans(self.offsets[chosen], np.diff(self.offsets)[chosen])
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


def collate(requests: Sequence[EncodedRequest]) -> Batch:
    """Puts requests together; row numbers are shifted, nothing is padded."""
    behavior_offsets = np.cumsum([0] + [len(r.behavior_node) for r in requests])
    first_pair = np.cumsum([0] + [len(r.pair_behavior) for r in requests])
    behaviors = [
        r.pair_behavior + np.int32(first) for r, first in zip(requests, behavior_offsets.tolist(), strict=False)
    ]
    first_candidate = np.cumsum([0] + [len(r.candidate_node) for r in requests])
    ends = [r.offsets[1:] + first for r, first in zip(requests, first_pair.tolist(), strict=False)]
    return Batch(
        behavior_node_U=_tensor([r.behavior_node for r in requests]),
        behavior_side_UF=_tensor([r.behavior_side for r in requests]),
        interval_ms_U=_tensor([r.interval_ms for r in requests]),
        behavior_offsets=torch.from_numpy(behavior_offsets),
        num_newest=torch.tensor([r.num_newest for r in requests], dtype=torch.int64),
        behavior_M=_tensor(behaviors),
        match_level_M=_tensor([r.match_level for r in requests]),
        source_M=_tensor([r.source for r in requests]),
        pair_offsets=_tensor([np.zeros(1, np.int64), *ends]),
        same_as_B=_tensor([r.same_as + first for r, first in zip(requests, first_candidate, strict=False)]),
        request_B=torch.from_numpy(np.repeat(np.arange(len(requests)), np.diff(first_candidate))),
        candidate_node_B=_tensor([r.candidate_node for r in requests]),
        categorical_BF=_tensor([r.categorical for r in requests]),
        multi_valued=tuple(_bags(lists) for lists in zip(*(r.multi_valued for r in requests), strict=True)),
        dense_BS=_tensor([r.dense for r in requests]),
    )


def _bags(lists: Sequence[Lists[np.int64]]) -> tuple[Tensor, Tensor]:
    joined = Lists.join(lists)
    return torch.from_numpy(joined.values), torch.from_numpy(joined.offsets)


def _tensor(arrays: Sequence[AnyArray]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays))
