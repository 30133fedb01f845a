"""The control `control_naive`: SIM written plainly in torch, everything repeated per candidate, no service.

    search   r_i = <W_b e_i, W_a e_a>                                  over the whole history, the k best
    attend   a^h = softmax_i( <W_z^h z_i, W_v^h v> / sqrt(H) ),  z_i = [e_i, t(interval_i)]       per target
    score    a perceptron per target over [u, e_a]

as one writes it over a batch of examples, of which each has a history of its own: ids and times are repeated for every
candidate, embedded, searched, and the k best gathered. Weights are random: only the time counts. Source of the
formulas: SIM, arXiv 2006.05639, section 3.

Legend: B candidates, L behaviors, K retrieved, F fields of a behavior, D width, H width of a head, P width of time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scripts.bench.rank.model import DIM, THREE

if TYPE_CHECKING:
    from collections.abc import Sequence

TOP_K = 100
MOST_PAIRS = 1_000_000
"""Candidates x behaviors of one call, at most: with more, fewer candidates are scored, and the time is scaled up."""
_AT_ONCE = 10_000
"""Candidates x behaviors of a batch: with more, what is made of them leaves the caches, and each costs more."""
_HEADS, _HEAD_DIM, _TIME_DIM, _TIME_BUCKETS = 2, 32, 8, 24
_TOWER = (64, 32)


class NaiveSIM(nn.Module):
    """Scores candidates against a history that is repeated for each of them.

    Args:
        rows: Rows of the table of each field of a behavior; the first ones are item and categories, and of these a
            candidate has its own.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, DIM) for count in rows)
        self.of_history, self.of_candidate = nn.Linear(DIM, DIM, bias=False), nn.Linear(DIM, DIM, bias=False)
        self.times = nn.Embedding(_TIME_BUCKETS, _TIME_DIM)
        wide = DIM + _TIME_DIM
        self.queries = nn.ModuleList(nn.Linear(DIM, _HEADS * _HEAD_DIM, bias=False) for _ in THREE.targets)
        self.keys = nn.ModuleList(nn.Linear(wide, _HEADS * _HEAD_DIM, bias=False) for _ in THREE.targets)
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(_HEADS * wide + DIM, _TOWER[0]), nn.ReLU(), nn.Linear(*_TOWER), nn.ReLU(), nn.Linear(32, 1)
            )
            for _ in THREE.targets
        )

    def forward(self, history_LF: Tensor, time_L: Tensor, candidate_BF: Tensor) -> Tensor:
        """Gives a logit per candidate and target, (B, T), some candidates at once.

        Args:
            history_LF: Row of each behavior in the table of each field. int64.
            time_L: Bucket of each behavior's age. int64.
            candidate_BF: Row of each candidate in the tables of item and categories. int64.
        """
        some = max(1, _AT_ONCE // len(history_LF))
        return torch.cat([self._some(history_LF, time_L, each) for each in candidate_BF.split(some)])

    def _some(self, history_LF: Tensor, time_L: Tensor, candidate_BF: Tensor) -> Tensor:
        history_BLF = history_LF.repeat(len(candidate_BF), 1, 1)
        time_BL = time_L.repeat(len(candidate_BF), 1)
        candidate_BD = self._embed(candidate_BF)
        behavior_BLD = self._embed(history_BLF)
        score_BL = (self.of_history(behavior_BLD) * self.of_candidate(candidate_BD)[:, None]).sum(2)
        found_BK = score_BL.topk(min(TOP_K, score_BL.shape[1]), dim=1).indices
        mine_BKD = behavior_BLD.gather(1, found_BK[:, :, None].expand(-1, -1, DIM))
        z_BKZ = torch.cat([mine_BKD, self.times(time_BL.gather(1, found_BK))], dim=2)
        logits = []
        for query, key, tower in zip(self.queries, self.keys, self.towers, strict=True):
            query_BWH = query(candidate_BD).unflatten(1, (_HEADS, _HEAD_DIM))
            key_BKWH = key(z_BKZ).unflatten(2, (_HEADS, _HEAD_DIM))
            score_BWK = torch.einsum("bwh,bkwh->bwk", query_BWH, key_BKWH) / math.sqrt(_HEAD_DIM)
            pooled_BWZ = torch.softmax(score_BWK, dim=2) @ z_BKZ
            logits.append(tower(torch.cat([pooled_BWZ.flatten(1), candidate_BD], dim=1)))
        return torch.cat(logits, dim=1)

    def _embed(self, rows: Tensor) -> Tensor:
        """Gives the sum of the fields' embeddings: (..., F) -> (..., D)."""
        total = self.tables[0](rows[..., 0])
        for at in range(1, rows.shape[-1]):
            total = total + self.tables[at](rows[..., at])
        return total
