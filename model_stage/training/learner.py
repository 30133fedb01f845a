"""One step of training: from a loss to changed weights and their running average.

The attention table changes row by row (`row_adagrad.py`): what no step reads stays as it was. Two ways to change the
other tables (representations and fields), and to pass gradients to all of them:

- *dense*: Adam over every row in every step. Moments decay and L2 pulls also where the batch has no behavior.
- *touched*: sparse gradients and `torch.optim.SparseAdam`. A row changes in the steps alone whose batch reads it: so do
  its moments, and L2 pulls it then only. A step costs what it touches, whatever the number of rows. Where every step
  touches every row, both are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from model_stage.networks.parameters import trainable_parameters
from model_stage.training.average import RunningAverage
from model_stage.training.row_adagrad import RowAdagrad

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model_stage.config.train import TrainConfig
    from model_stage.networks import RankingNetwork
    from model_stage.networks.parameters import Role
    from model_stage.training.auxiliary import AuxiliaryModel


_LARGE: tuple[Role, ...] = ("attention", "table")
"""Groups of the large tables, of which a step reads a few rows."""
_DECOUPLED: tuple[Role, ...] = ("head",)
"""Groups whose penalty pulls the weights themselves (AdamW), not their gradient."""


class Learner:
    """Changes a network's weights by their gradients; those that require none stay as they are.

    Switches the network's large tables to sparse gradients, or back, as the configuration says.

    Args:
        network: The network.
        config: How to train.
        auxiliary: Learns with the network; not averaged.

    Raises:
        ParameterGroupError: A parameter is in no group of the network's or in more than one.
    """

    def __init__(self, network: RankingNetwork, config: TrainConfig, auxiliary: AuxiliaryModel | None = None) -> None:
        touched, groups = config.tables == "touched", network.parameter_groups()
        for group in groups:
            if group.role in _LARGE:
                _set_sparse(group.modules, sparse=touched)
        learning = trainable_parameters(network, groups)
        penalty: dict[str, float] = {"table": config.embedding_l2, "block": 0.0, "head": config.weight_decay}
        lazy: tuple[Role, ...] = _LARGE if touched else ()
        self._touched = {name: weight for role in lazy for name, weight in learning[role].items()}
        self._l2 = {name: penalty.get(role, 0.0) for role in lazy for name in learning[role]}
        self._average = RunningAverage(network, config.averaging, self._touched)
        by_row, sparse = [*learning["attention"].values()], [*learning["table"].values()] if touched else []
        named = [(role, weights) for role, weights in learning.items() if role not in ("attention", *lazy)]
        if auxiliary is not None:
            named += trainable_parameters(auxiliary, auxiliary.parameter_groups()).items()
        dense = [(role, list(weights.values())) for role, weights in named]
        groups_of_adam = [
            {"params": weights, "weight_decay": penalty[role], "decoupled_weight_decay": role in _DECOUPLED}
            for role, weights in dense
            if weights
        ]
        rate = config.learning_rate
        self._optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(groups_of_adam, lr=rate, fused=True)]
        if by_row:
            self._optimizers.append(RowAdagrad(by_row, config.attention_rate))
        if sparse:
            self._optimizers.append(torch.optim.SparseAdam(sparse, lr=rate))
        self._weights = [*by_row, *sparse, *(weight for _, weights in dense for weight in weights)]

    def step(self, loss: torch.Tensor) -> None:
        """Takes one step against the gradient of a loss."""
        for weight in self._weights:
            weight.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        self._average.before_change(self._penalised())
        for optimizer in self._optimizers:
            optimizer.step()
        self._average.after_change()

    def averaged(self) -> RankingNetwork:
        """Gives the network with the running average of the weights; the next steps change it."""
        return self._average.network()

    def _penalised(self) -> dict[str, torch.Tensor]:
        """Adds L2 to the gradients of touched tables, and gives the rows these have, each once."""
        touched = {}
        for name, weight in self._touched.items():
            if weight.grad is None:
                continue
            # A row for every time that the batch reads it. `coalesce` does the same in twice the time.
            rows, place = torch.unique(weight.grad._indices()[0], return_inverse=True)
            values = weight.detach().index_select(0, rows).mul_(self._l2[name])
            values.index_add_(0, place, weight.grad._values())
            weight.grad = torch.sparse_coo_tensor(
                rows[None], values, weight.shape, is_coalesced=True, check_invariants=False
            )
            touched[name] = rows
        return touched


def _set_sparse(modules: Iterable[nn.Module], *, sparse: bool) -> None:
    for module in modules:
        for table in module.modules():
            if isinstance(table, nn.Embedding | nn.EmbeddingBag):
                table.sparse = sparse
