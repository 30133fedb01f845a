"""DARE: two table sets, one that says where to look and one that says what was seen.

    s_i = <e_i^A, v^A> / sqrt(d_A) + <p_f(i)^A, p_0^A> / sqrt(d_P)        semantics and time, scaled apart
    w   = softmax over the K pairs of highest s
    h   = sum_i w_i [e_i^R, p_f(i)^R]                                    width R + P
    u   = [h, h * [v^R, p_0^R]]

Source: DARE, arXiv 2410.02604 (formulas and code): both table sets serve candidate and history; time is concatenated,
its score scaled apart; the head reads [v, h, v * h], of which u is the last two. Summing several positional encodings
and the mass (see `tin`) are our choice. The top k passes no gradient to what it drops, so an auxiliary loss over
`attend_whole` (`model_stage/training/auxiliary.py`) teaches the attention tables from the whole sequence.

Legend: M pairs, U behaviors of the union, B candidates, A attention width, R representation width, P width of time,
N buckets, K pairs of one candidate, H behaviors of whole histories, C candidates of one request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import PairBlock
from model_stage.blocks.pairs import (
    Attended,
    AttentionInput,
    full_precision,
    pair_scores,
    top_k_pairs,
)
from model_stage.blocks.position import PositionTables
from model_stage.blocks.registry import BlockConfig, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.blocks.block_input import Positions, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeHistories:
    """All that the users of some requests did, end to end; a request's candidates share its rows.

    Two requests, of 3 behaviors and 2 candidates and of 1 behavior and 1 candidate:

        rows        h0 h1 h2 | h3      lengths     3 1
        candidates  c0 c1    | c2      candidates  2 1
    """

    attention_HA: Tensor
    representation_HR: Tensor
    buckets: Sequence[Tensor]
    """Bucket of each row under each encoding, int64 (H,) each."""
    lengths: Sequence[int]
    """Rows of each request, oldest first."""
    attention_BA: Tensor
    representation_BR: Tensor
    candidates: Sequence[int]
    """Candidates of each request."""


class DARE(nn.Module):
    """One attention over decoupled tables; `search` chooses the pairs that `forward` attends over."""

    def __init__(self, positions: Positions, representation_dim: int, time_dim: int) -> None:
        super().__init__()
        self.attention_positions = PositionTables(positions, time_dim)
        self.representation_positions = PositionTables(positions, time_dim)
        self.out_dim = 2 * (representation_dim + time_dim)

    def scores(self, x: AttentionInput) -> Tensor:
        """Gives s_i of each pair, which needs the attention tables alone. (M,), float32 or better."""
        key_M1A = x.attention_UA.index_select(0, x.behavior_M)[:, None]
        score_M = pair_scores(x.attention_BA[:, None], key_M1A, x.candidate_M).squeeze(1) / math.sqrt(key_M1A.shape[-1])
        return self._plus_time(score_M, x.buckets_of(self.attention_positions.positions))

    def _plus_time(self, score_M: Tensor, buckets: Sequence[Tensor]) -> Tensor:
        for score_N, bucket_M in zip(self._time_scores(), buckets, strict=True):
            score_M = score_M + score_N.index_select(0, bucket_M)
        return score_M

    def _time_scores(self) -> list[Tensor]:
        """Gives what each bucket adds to a score, for each encoding, (N,) each."""
        query_P = full_precision(self.attention_positions.candidate_row)
        return [
            (full_precision(table_NP) * query_P).sum(-1) / math.sqrt(len(query_P))
            for table_NP in self.attention_positions.rows
        ]

    @torch.no_grad()
    def search(self, x: AttentionInput, top_k: int) -> Tensor:
        """Gives the rows of each candidate's `top_k` pairs by s_i, ascending, for `AttentionInput.take`. int64."""
        return top_k_pairs(self.scores(x), x.candidate_M, top_k)

    def forward(self, x: AttentionInput) -> Attended:
        """Attends over all pairs given; see the module docstring."""
        tables, positions = self.representation_positions, self.attention_positions.positions
        query_WBA = full_precision(x.attention_BA)[None] / math.sqrt(x.attention_BA.shape[1])
        bias_WN = x.rows_of(positions, [score_N[:, None] for score_N in self._time_scores()], 1).T
        bias_WBN = bias_WN[:, None].expand(1, x.num_candidates, -1)
        items_WBR, share_WBN, mass_WB, weight_WM = x.attend(
            query_WBA, x.attention_UA[:, None], bias_WBN, x.representation_UR[:, None]
        )
        time_NP = x.rows_of(positions, [*tables.rows], len(tables.candidate_row))
        with torch.autocast(share_WBN.device.type, enabled=False):
            times_BP = share_WBN.squeeze(0) @ time_NP
        representation_BR = self._crossed(torch.cat([items_WBR.squeeze(0), times_BP], dim=1), x.representation_BR)
        return Attended(representation_BR=representation_BR, mass_BW=mass_WB.T, weight_WM=weight_WM)

    def attend_whole(self, x: WholeHistories) -> Tensor:
        """Gives u of the module docstring over all behaviors of whole histories. (B, out_dim).

        The same as `forward` over every pair of a candidate and a row of its request, by products of matrices: no pair
        is formed.
        """
        query_BA = full_precision(x.attention_BA) / math.sqrt(x.attention_BA.shape[1])
        key_HA, item_HR = full_precision(x.attention_HA), full_precision(x.representation_HR)
        tables = self.representation_positions
        time_HP = tables.encode(x.buckets).expand(len(item_HR), len(tables.candidate_row))
        item_HR = torch.cat([item_HR, full_precision(time_HP)], dim=1)
        time_H = self._plus_time(key_HA.new_zeros(len(key_HA)), x.buckets)
        lengths, pooled = list(x.lengths), []
        with torch.autocast(query_BA.device.type, enabled=False):
            for query_CA, key_KA, item_KR, time_K in zip(
                query_BA.split_with_sizes(list(x.candidates)),
                key_HA.split_with_sizes(lengths),
                item_HR.split_with_sizes(lengths),
                time_H.split_with_sizes(lengths),
                strict=True,
            ):
                pooled.append(torch.softmax(query_CA @ key_KA.T + time_K, dim=1) @ item_KR)
        return self._crossed(torch.cat(pooled), x.representation_BR)

    def _crossed(self, pooled_BR: Tensor, representation_BR: Tensor) -> Tensor:
        own_P = self.representation_positions.candidate_row
        own_BR = torch.cat([representation_BR, own_P.expand(len(representation_BR), len(own_P))], dim=1)
        return torch.cat([pooled_BR, pooled_BR * own_BR], dim=1).to(representation_BR.dtype)

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        query_P = self.attention_positions.candidate_row
        time_MP = self.attention_positions.encode(x.buckets_of(self.attention_positions.positions)).expand(
            len(x.behavior_M), len(query_P)
        )
        seen_MP = self.representation_positions.encode(x.buckets_of(self.attention_positions.positions)).expand(
            len(x.behavior_M), len(query_P)
        )
        item_MR = torch.cat([x.representation_UR[x.behavior_M], seen_MP], dim=1)

        def attend(candidate: int, mine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            query_A = x.attention_BA[candidate]
            score_K = x.attention_UA[x.behavior_M[mine]] @ query_A / math.sqrt(len(query_A))
            score_K = score_K + time_MP[mine] @ query_P / math.sqrt(len(query_P))
            weight_K1 = torch.softmax(score_K, dim=0)[:, None]
            pooled_R = (weight_K1 * item_MR[mine]).sum(0)
            own_R = torch.cat([x.representation_BR[candidate], self.representation_positions.candidate_row])
            return torch.cat([pooled_R, pooled_R * own_R]), weight_K1, score_K[:, None]

        return x.by_candidate(attend)


@register
class DAREConfig(BlockConfig):
    """Options of the block in a preset. The whole selection is attended over: search has chosen it."""

    kind: Literal["dare"]
    time_dim: int = Field(ge=1, le=256)
    reads_attention = True

    def build(self, shape: Shape) -> PairBlock:
        """See `BlockConfig`."""
        dims = shape.representation_dim, self.time_dim
        return PairBlock(
            shape, lambda positions: DARE(positions, *dims), positional=True, num_masses=1, reads_attention=True
        )
