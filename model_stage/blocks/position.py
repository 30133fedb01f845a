"""Target-decoupled positional encoding: every target (or group of rare targets) has positional tables of its own.

Legend: M pairs, B candidates, D width, N buckets of one encoding.

Source: the additive target-aware temporal encoding is TIN's (arXiv 2308.08487, section 4.1): e~_i = e_i + p_f(i) and
v~ = v + p_f(0). Indexing the tables by target and summing several kinds is our choice (PAPERS: the Tencent paper names
the idea and gives no formula).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model_stage.config.targets import (
    PERIOD_MS,
    CalendarPosition,
    IntervalPosition,
    MatchLevelPosition,
    Position,
    RankPosition,
)
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

MINUTE_MS = 60_000.0


def position_buckets(position: Position, values_M: Tensor) -> Tensor:
    """Gives the bucket of each value under one encoding, 0 .. buckets - 1. int64 (M,).

    Args:
        position: The encoding.
        values_M: What it encodes: ranks, 1 = the newest behavior of the candidate's list, int64; intervals, as-of time
            less the behavior's time, positive, milliseconds, int64; or match levels, levels climbed, 255 = not found by
            hard search, any integer type.
    """
    match position:
        case RankPosition():
            return (values_M - 1).clamp(0, position.buckets - 1)
        case IntervalPosition():
            # float64: float32 cannot tell milliseconds apart beyond a few hours, and serving must match training.
            minutes = values_M.to(torch.float64) / MINUTE_MS
            span = torch.log1p(torch.tensor(position.span_days * DAY_MS / MINUTE_MS, dtype=torch.float64))
            bucket = (torch.log1p(minutes) / span * position.buckets).to(torch.int64)
            return bucket.clamp(0, position.buckets - 1)
        case CalendarPosition():
            period = PERIOD_MS[position.period]
            # Shifted by half a bucket, so that "a period ago, give or take" is one bucket and not two.
            half = period // (2 * position.buckets)
            return torch.remainder(values_M + half, period) * position.buckets // period
        case MatchLevelPosition():
            return values_M.to(torch.int64).clamp(max=position.levels)


class PositionTables(nn.Module):
    """The positional tables of one target or group, for one width: a row per bucket, and the candidate's own row.

    `bucket_rows(k)` is (N_k, D) for the k-th encoding; `candidate_row` is p_f(0), (D,).
    """

    def __init__(self, positions: Sequence[Position], dim: int) -> None:
        super().__init__()
        self.positions = tuple(positions)
        self.rows = nn.ParameterList(nn.Parameter(torch.randn(p.buckets, dim) * 0.02) for p in positions)
        self.candidate_row = nn.Parameter(torch.randn(dim) * 0.02)

    def encode(self, buckets: Sequence[Tensor]) -> Tensor:
        """Gives p_f(i) of each pair, the sum over the encodings. (M, D).

        Blocks over lists add it to their rows; of blocks over pairs only the reference twin forms it.
        """
        total = torch.zeros(())
        for table_ND, bucket_M in zip(self.rows, buckets, strict=True):
            total = total + table_ND.index_select(0, bucket_M)
        return total
