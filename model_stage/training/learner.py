"""One step of training: from a loss to changed weights and their running average.

Two ways to change the tables (both table sets, and the fields):

- *dense*: Adam over every row in every step. Moments decay and L2 pulls also where the batch has no behavior.
- *touched*: sparse gradients and `torch.optim.SparseAdam`. A row changes in the steps alone whose batch reads it: so do
  its moments, and L2 pulls it then only. A step costs what it touches, whatever the number of rows. Where every step
  touches every row, both are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from model_stage.training.average import RunningAverage

if TYPE_CHECKING:
    from model_stage.config.train import TrainConfig
    from model_stage.networks import RankingNetwork
    from model_stage.training.auxiliary import AuxiliaryModel

_LARGE = ("attention.", "representation.", "categorical.", "multi_valued.")


class Learner:
    """Changes a network's weights by their gradients; those that require none stay as they are.

    Switches the network's large tables to sparse gradients, or back, as the configuration says.

    Args:
        network: The network.
        config: How to train.
        auxiliary: Learns with the network; not averaged.
    """

    def __init__(self, network: RankingNetwork, config: TrainConfig, auxiliary: AuxiliaryModel | None = None) -> None:
        _set_sparse(network, sparse=config.tables == "touched")
        learning = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self._touched = {
            name: weight for name, weight in learning.items() if config.tables == "touched" and name.startswith(_LARGE)
        }
        self._l2 = {name: _penalty(name, config) for name in self._touched}
        self._average = RunningAverage(network, config.averaging, self._touched)
        dense = {name: weight for name, weight in learning.items() if name not in self._touched}
        self._optimizers = _optimizers(dense, config)
        if self._touched:
            self._optimizers.append(torch.optim.SparseAdam(self._touched.values(), lr=config.learning_rate))
        if auxiliary is not None:
            self._optimizers.append(_auxiliary_optimizer(auxiliary, config))

    def step(self, loss: torch.Tensor) -> None:
        """Takes one step against the gradient of a loss."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
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
            gradient = weight.grad.coalesce()
            (rows,) = gradient.indices()
            values = gradient.values().add(weight.detach().index_select(0, rows), alpha=self._l2[name])
            weight.grad = torch.sparse_coo_tensor(
                gradient.indices(), values, gradient.shape, is_coalesced=True, check_invariants=False
            )
            touched[name] = rows
        return touched


def _set_sparse(network: RankingNetwork, *, sparse: bool) -> None:
    for name, table in network.named_modules():
        if isinstance(table, nn.Embedding | nn.EmbeddingBag) and f"{name}.".startswith(_LARGE):
            table.sparse = sparse


def _penalty(name: str, config: TrainConfig) -> float:
    """Gives the L2 of a table, part of the gradient; the small positional tables of the blocks have none."""
    if name.startswith("interest."):
        return 0.0
    return config.attention_l2 if name.startswith("attention.") else config.embedding_l2


def _optimizers(learning: dict[str, nn.Parameter], config: TrainConfig) -> list[torch.optim.Optimizer]:
    def of(*parts: str) -> list[nn.Parameter]:
        return [weight for name, weight in learning.items() if name.startswith(parts)]

    rate = config.learning_rate
    tables = [{"params": of(part), "weight_decay": _penalty(part, config)} for part in ("interest.", *_LARGE)]
    return [
        torch.optim.Adam(tables, lr=rate, fused=True),
        torch.optim.AdamW(of("towers."), lr=rate, weight_decay=config.weight_decay, fused=True),
    ]


def _auxiliary_optimizer(auxiliary: AuxiliaryModel, config: TrainConfig) -> torch.optim.Optimizer:
    """As the network: no penalty of positional tables, a decay of the head's weights."""
    parts = [
        {"params": list(auxiliary.block.parameters()), "weight_decay": 0.0},
        {"params": list(auxiliary.head.parameters()), "weight_decay": config.weight_decay},
    ]
    return torch.optim.AdamW(parts, lr=config.learning_rate, fused=True)
