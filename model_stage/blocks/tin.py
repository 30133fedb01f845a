"""Temporal Interest Network over decoupled tables, one attention per positional table set.

    e~_i = e_i + p_f(i)          v~ = v + p_f(0)
    a_i  = softmax_i( <e~_i, v~> / sqrt(d) )        on the attention tables
    u    = sum_i a_i (e~_i * v~)                    on the representation tables
    mass = log(1 + sum_i exp( <e~_i, v~> / sqrt(d) ))

Source: TIN, arXiv 2308.08487 (formulas and code); the two table sets are DARE's, arXiv 2410.02604. The mass is our
choice: a softmax says how attention is shared and not how much there was to attend to. It is a count of the behaviors,
each worth what its item, age and match level make it worth to this target.

Legend: M pairs, U behaviors of the union, B candidates, A attention width, R representation width, N buckets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model_stage.blocks.position import PositionTables
from model_stage.ragged import segment_softmax, segment_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.targets import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """What the block gives."""

    representation_BR: Tensor
    """Zeros where nothing was retrieved."""
    mass_B: Tensor
    """0 where nothing was retrieved."""
    weight_M: Tensor
    """Sums to 1 over the pairs of a candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionInput:
    """What the block attends over: fused embeddings of both table sets, and the pairs that join them."""

    attention_UA: Tensor
    attention_BA: Tensor
    representation_UR: Tensor
    representation_BR: Tensor
    behavior_M: Tensor
    """Row in U of each pair. int64."""
    candidate_M: Tensor
    """Row in B of each pair, ascending. int64."""
    buckets: Sequence[Tensor]
    """Bucket of each pair under each encoding, int64 (M,) each."""


class TIN(nn.Module):
    """One temporal-interest attention with positional tables of its own.

    `forward` and `reference` compute the same function; the fast path shares the work between candidates:
    it gathers (M, A) once, and positions cost (B, N) tables instead of (M, A) rows.
    """

    def __init__(self, positions: Sequence[Position], attention_dim: int, representation_dim: int) -> None:
        super().__init__()
        self.attention_positions = PositionTables(positions, attention_dim)
        self.representation_positions = PositionTables(positions, representation_dim)

    def forward(self, x: AttentionInput) -> Interest:
        """Attends; see the module docstring."""
        num_candidates = len(x.attention_BA)
        query_BA = x.attention_BA + self.attention_positions.candidate_row
        key_MA = x.attention_UA.index_select(0, x.behavior_M)
        score_M = (key_MA * query_BA.index_select(0, x.candidate_M)).sum(-1)
        for table_NA, bucket_M in zip(self.attention_positions.rows, x.buckets, strict=True):
            score_BN = query_BA @ table_NA.T
            score_M = score_M + score_BN.flatten().index_select(0, x.candidate_M * len(table_NA) + bucket_M)
        weight_M, mass_B = segment_softmax(score_M / query_BA.shape[-1] ** 0.5, x.candidate_M, num_candidates)
        item_MR = x.representation_UR.index_select(0, x.behavior_M)
        pooled_BR = segment_sum(weight_M[:, None] * item_MR, x.candidate_M, num_candidates)
        for table_NR, bucket_M in zip(self.representation_positions.rows, x.buckets, strict=True):
            cell_M = x.candidate_M * len(table_NR) + bucket_M
            mass_BN = segment_sum(weight_M, cell_M, num_candidates * len(table_NR)).view(num_candidates, -1)
            pooled_BR = pooled_BR + mass_BN @ table_NR
        value_BR = x.representation_BR + self.representation_positions.candidate_row
        return Interest(representation_BR=pooled_BR * value_BR, mass_B=mass_B, weight_M=weight_M)

    def reference(self, x: AttentionInput) -> Interest:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        query_BA = x.attention_BA + self.attention_positions.candidate_row
        value_BR = x.representation_BR + self.representation_positions.candidate_row
        key_MA = x.attention_UA[x.behavior_M] + self.attention_positions.encode(x.buckets)
        item_MR = x.representation_UR[x.behavior_M] + self.representation_positions.encode(x.buckets)
        outputs, masses, weights = [], [], []
        for candidate, (query_A, value_R) in enumerate(zip(query_BA, value_BR, strict=True)):
            mine = x.candidate_M == candidate
            score_K = key_MA[mine] @ query_A / len(query_A) ** 0.5
            weight_K = torch.softmax(score_K, dim=0)
            outputs.append((weight_K[:, None] * item_MR[mine] * value_R).sum(0))
            masses.append(torch.log(1 + torch.exp(score_K).sum()))
            weights.append(weight_K)
        return Interest(representation_BR=torch.stack(outputs), mass_B=torch.stack(masses), weight_M=torch.cat(weights))
