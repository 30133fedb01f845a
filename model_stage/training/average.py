"""The running average of a network's weights, kept so that a step costs what it changes.

After step n the average is  avg_n = d_n avg_{n-1} + (1 - d_n) w_n,  d_1 = 0. A row that no step changes after step s
has the weights w throughout, so what the steps in between would have made of its average is known at once:

    avg_n = w + (avg_s - w) d_{s+1} ... d_n

A lazy table therefore waits: its rows are caught up just before they change, and all of them when the average is read.
The products are kept as the running sum of log d_n, a number per step, and the sum at which each row stopped.
`torch.optim.swa_utils.AveragedModel` gives the same, but walks every weight and copies every buffer in every step.
"""

from __future__ import annotations

import copy
import math
import sys
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from model_stage.networks import RankingNetwork


class RunningAverage:
    """A copy of a network that holds the running average of its parameters; those without a gradient are as they were.

    Each step is `before_change` with the rows that it changes of every lazy table, the change, then `after_change`.

    Args:
        network: The network; keeps its own weights.
        decay: Share of the average that a step keeps, at most: it starts short and lengthens, so that early weights are
            soon forgotten. 0 = the last weights.
        lazy: Names of the parameters of which a step changes a few rows, (V, D) each.
    """

    def __init__(self, network: RankingNetwork, decay: float, lazy: Collection[str] = ()) -> None:
        self._decay = decay
        self._kept = copy.deepcopy(network).requires_grad_(False)
        averages = dict(self._kept.named_parameters())
        learning = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self._lazy = {name: _LazyTable(averages[name], learning[name].detach()) for name in lazy}
        self._every = [(averages[name], weight) for name, weight in learning.items() if name not in self._lazy]
        self._steps, self._log = 0, 0.0

    def before_change(self, rows: Mapping[str, Tensor]) -> None:
        """Catches up the rows that the next step changes, int64 and distinct, by the name of their lazy table."""
        for name, changed in rows.items():
            self._lazy[name].catch_up(changed, self._log)

    @torch.no_grad()
    def after_change(self) -> None:
        """Adds the weights as they are now to the average."""
        decay = min(self._decay, (1.0 + self._steps) / (10.0 + self._steps)) if self._steps else 0.0
        for average, weight in self._every:
            average.lerp_(weight, 1.0 - decay)
        self._steps += 1
        self._log += math.log(max(decay, sys.float_info.min))  # 0 leaves nothing of the average, and so does this

    def network(self) -> RankingNetwork:
        """Gives the copy, every row caught up; the next steps change it. Costs a pass over the lazy tables."""
        for table in self._lazy.values():
            table.catch_up_all(self._log)
        return self._kept


class _LazyTable:
    """The average of one table, row by row as of the sum of logarithms at which the row last stopped."""

    def __init__(self, average: Tensor, weight: Tensor) -> None:
        self._average, self._weight = average, weight
        self._stopped = torch.zeros(len(weight), dtype=torch.float64)

    def catch_up(self, rows: Tensor, log: float) -> None:
        factor = _factor(log, self._stopped.index_select(0, rows), self._weight)
        weight, average = self._weight.index_select(0, rows), self._average.index_select(0, rows)
        self._average.index_copy_(0, rows, torch.lerp(weight, average, factor))
        self._stopped.index_fill_(0, rows, log)

    def catch_up_all(self, log: float) -> None:
        self._average.copy_(torch.lerp(self._weight, self._average, _factor(log, self._stopped, self._weight)))
        self._stopped.fill_(log)


def _factor(log: float, stopped: Tensor, like: Tensor) -> Tensor:
    """Gives the product of the decays since rows stopped, (N, 1) in the dtype of the weights."""
    return torch.exp(log - stopped).to(like.dtype)[:, None]
