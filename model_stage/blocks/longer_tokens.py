"""The tokens of LONGER: rows with their time and position, merged G at a time.

    list of 5 rows, G = 2:   [- r0] [r1 r2] [r3 r4]     counted from the newest row; the empty slot is masked, then zero

Source and choices: see `longer`.

Legend: N rows of L lists, S merged tokens, G rows per merged token, d width of a row, D = G d.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model_stage.blocks.position import position_buckets
from model_stage.blocks.ragged import lengths_to_offsets, offsets_to_segments
from model_stage.blocks.sequence import TransformerLayer, lists_of, scaled_dot_product
from model_stage.config.targets import IntervalPosition, RankPosition

INTERVAL = IntervalPosition(kind="interval", buckets=32)
RANK = RankPosition(kind="rank", buckets=512)
"""Position counted from the newest row."""


class Tokens(nn.Module):
    """Gives the merged tokens of every list, and how many each has.

    Args:
        dim: Width of a row.
        merge: G; 1 = no merge and no inner layer.
        heads: Of the inner layer.
    """

    def __init__(self, dim: int, merge: int, heads: int) -> None:
        super().__init__()
        self._dim, self._merge = dim, merge
        self.interval = nn.Embedding(INTERVAL.buckets, dim)
        self.rank = nn.Parameter(torch.randn(RANK.buckets, dim) * 0.02)
        self.join = nn.Linear(2 * dim, dim)
        self.inner = TransformerLayer(dim, heads) if merge > 1 else None

    def forward(self, values_ND: Tensor, offsets: Tensor, interval_ms_N: Tensor) -> tuple[Tensor, Tensor]:
        """Gives merged tokens (S, D), and their offsets int64 (L + 1,)."""
        x_ND = self._rows(values_ND, offsets, interval_ms_N)
        length_L = offsets[1:] - offsets[:-1]
        group_N, count_L = self.groups(length_L)
        num_groups, size = int(count_L.sum()), self._merge
        rank_N = _ranks(offsets)
        cell_N = group_N * size + (size - 1 - rank_N % size)
        x_SGD = x_ND.new_zeros(num_groups * size, x_ND.shape[1]).index_copy(0, cell_N, x_ND).view(-1, size, self._dim)
        if self.inner is not None and num_groups:
            filled_SG = cell_N.new_zeros(num_groups * size).index_fill(0, cell_N, 1).bool().view(num_groups, size)
            attended = scaled_dot_product(self.inner.query(x_SGD), self.inner.keys(x_SGD), filled_SG[:, None])
            x_SGD = self.inner.finish(x_SGD, attended).where(filled_SG[:, :, None], 0.0)
        return x_SGD.flatten(1), lengths_to_offsets(count_L)

    def reference(self, values_ND: Tensor, offsets: Tensor, interval_ms_N: Tensor) -> list[Tensor]:
        """The same, list by list and group by group: merged tokens (T', D) of each list."""
        merged = []
        for x_TD in lists_of(self._rows(values_ND, offsets, interval_ms_N), offsets):
            groups = []
            for end in range(len(x_TD), 0, -self._merge):
                group_GD = x_TD[max(0, end - self._merge) : end]
                if self.inner is not None:
                    see_all = torch.ones(len(group_GD), len(group_GD), dtype=torch.bool)
                    group_GD, _ = self.inner.reference(group_GD, group_GD, see_all)
                empty = group_GD.new_zeros(self._merge - len(group_GD), group_GD.shape[1])
                groups.append(torch.cat([empty, group_GD]).flatten())
            merged.append(torch.stack(groups[::-1]) if groups else x_TD.new_zeros(0, self._merge * self._dim))
        return merged

    def groups(self, length_L: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the merged token of each row, numbered over all lists, (N,), and how many a list has, (L,). int64."""
        offsets, size = lengths_to_offsets(length_L), self._merge
        count_L = (length_L + size - 1) // size
        end_L = count_L.cumsum(0)
        return end_L[offsets_to_segments(offsets)] - 1 - _ranks(offsets) // size, count_L

    def _rows(self, values_ND: Tensor, offsets: Tensor, interval_ms_N: Tensor) -> Tensor:
        """Gives rows with time joined and position added. (N, d)."""
        rank_N = _ranks(offsets)
        interval_ND = self.interval(position_buckets(INTERVAL, interval_ms_N))
        joined_ND: Tensor = self.join(torch.cat([values_ND, interval_ND], dim=1))
        return joined_ND + self.rank.index_select(0, position_buckets(RANK, rank_N + 1))


def _ranks(offsets: Tensor) -> Tensor:
    """Gives each row's place counted from its list's newest, 0 first. int64 (N,)."""
    segment_N = offsets_to_segments(offsets)
    return offsets[1:][segment_N] - 1 - torch.arange(len(segment_N), device=offsets.device)
