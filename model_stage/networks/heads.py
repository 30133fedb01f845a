"""From what the network knows of a candidate to a logit per target: towers, with experts before them or without.

    towers          logit_t = tower_t(own_t)                                       every target reads its own interest
    shared_bottom   logit_t = tower_t(MLP(x))                                      x = the interests of all targets
    mmoe            logit_t = tower_t( sum_k softmax_k(G_t x) expert_k(x) )
    ple             layer l: h_t = sum_k softmax_k(G_t h_t) expert_k(.) over the target's experts, of h_t, and the
                    shared ones, of h_s; h_s likewise over all experts; h = x before the first; logit_t = tower_t(h_t)

Source: MMoE (Ma et al., KDD 2018, "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts"); PLE (Tang et al., RecSys 2020, "Progressive Layered Extraction"), whose last layer has no shared
gate. Shared bottom is their baseline. Experts of one hidden layer with ReLU and gates without bias are our choice.

Legend: B candidates, T targets, X input width, E width of an expert, K experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.pairs import typed
from model_stage.config.schema import StrictModel
from model_stage.networks.towers import side_by_side, tower

if TYPE_CHECKING:
    from collections.abc import Sequence


class TowerHeads(StrictModel):
    """A tower per target and nothing shared."""

    kind: Literal["towers"]


class SharedBottomHeads(StrictModel):
    """One perceptron before all towers."""

    kind: Literal["shared_bottom"]
    width: int = Field(default=64, ge=1)


class MmoeHeads(StrictModel):
    """Experts for all, and a gate per target."""

    kind: Literal["mmoe"]
    experts: int = Field(default=4, ge=1, le=64)
    width: int = Field(default=32, ge=1)


class PleHeads(StrictModel):
    """Layers of experts, some of each target's own and some shared."""

    kind: Literal["ple"]
    layers: int = Field(default=2, ge=1, le=8)
    own_experts: int = Field(default=2, ge=1, le=64)
    """Per target."""
    shared_experts: int = Field(default=2, ge=1, le=64)
    width: int = Field(default=32, ge=1)


Heads = Annotated[TowerHeads | SharedBottomHeads | MmoeHeads | PleHeads, Field(discriminator="kind")]


class SharedBottom(nn.Module):
    """The same layer for every target."""

    def __init__(self, in_dim: int, num_targets: int, config: SharedBottomHeads) -> None:
        super().__init__()
        self.out_dim, self._num_targets = config.width, num_targets
        self.bottom = _expert(in_dim, config.width)

    def forward(self, x_BX: Tensor) -> list[Tensor]:
        """Gives what each tower reads, (B, E) each."""
        return [self.bottom(x_BX)] * self._num_targets

    def reference(self, x_BX: Tensor) -> list[Tensor]:
        """The formula, target by target."""
        return [_expert_reference(self.bottom, x_BX) for _ in range(self._num_targets)]


class MixtureOfExperts(nn.Module):
    """MMoE."""

    def __init__(self, in_dim: int, num_targets: int, config: MmoeHeads) -> None:
        super().__init__()
        self.out_dim = config.width
        self.experts = nn.ModuleList(_expert(in_dim, config.width) for _ in range(config.experts))
        self.gates = nn.ModuleList(nn.Linear(in_dim, config.experts, bias=False) for _ in range(num_targets))

    def forward(self, x_BX: Tensor) -> list[Tensor]:
        """Gives what each tower reads, (B, E) each."""
        out_BKE = torch.stack([expert(x_BX) for expert in self.experts], dim=1)
        return [_mix(gate, x_BX, out_BKE) for gate in self.gates]

    def reference(self, x_BX: Tensor) -> list[Tensor]:
        """The formula, candidate by candidate."""
        rows = [(x_X, [_expert_reference(expert, x_X) for expert in self.experts]) for x_X in x_BX]
        return [torch.stack([_mix_reference(gate, *row) for row in rows]) for gate in self.gates]


class _ExtractionLayer(nn.Module):
    """One layer of PLE; the last one has no shared gate."""

    def __init__(self, in_dim: int, num_targets: int, config: PleHeads, *, last: bool) -> None:
        super().__init__()
        own, shared = config.own_experts, config.shared_experts
        self.own = nn.ModuleList(
            nn.ModuleList(_expert(in_dim, config.width) for _ in range(own)) for _ in range(num_targets)
        )
        self.shared = nn.ModuleList(_expert(in_dim, config.width) for _ in range(shared))
        self.gates = nn.ModuleList(nn.Linear(in_dim, own + shared, bias=False) for _ in range(num_targets))
        self.shared_gate = None if last else nn.Linear(in_dim, num_targets * own + shared, bias=False)

    def forward(self, own: list[Tensor], shared_BX: Tensor) -> tuple[list[Tensor], Tensor]:
        """Gives the targets' and the shared next inputs, (B, E) each; the shared one of the last layer is its input."""
        of_own = [_outputs(experts, x_BX) for experts, x_BX in zip(self.own, own, strict=True)]
        of_shared = _outputs(self.shared, shared_BX)
        mixed = [
            _mix(gate, x_BX, torch.stack([*mine, *of_shared], dim=1))
            for gate, x_BX, mine in zip(self.gates, own, of_own, strict=True)
        ]
        if self.shared_gate is None:
            return mixed, shared_BX
        every = [out_BE for mine in of_own for out_BE in mine] + of_shared
        return mixed, _mix(self.shared_gate, shared_BX, torch.stack(every, dim=1))


class ProgressiveExtraction(nn.Module):
    """PLE."""

    def __init__(self, in_dim: int, num_targets: int, config: PleHeads) -> None:
        super().__init__()
        self.out_dim, self._num_targets = config.width, num_targets
        self.layers = nn.ModuleList(
            _ExtractionLayer(config.width if layer else in_dim, num_targets, config, last=layer == config.layers - 1)
            for layer in range(config.layers)
        )

    def forward(self, x_BX: Tensor) -> list[Tensor]:
        """Gives what each tower reads, (B, E) each."""
        own, shared_BX = [x_BX] * self._num_targets, x_BX
        for layer in self.layers:
            own, shared_BX = layer(own, shared_BX)
        return own

    def reference(self, x_BX: Tensor) -> list[Tensor]:
        """The formula, candidate by candidate."""
        rows = [self._reference(x_X) for x_X in x_BX]
        return [torch.stack(of_target) for of_target in zip(*rows, strict=True)]

    def _reference(self, x_X: Tensor) -> list[Tensor]:
        own, shared_X = [x_X] * self._num_targets, x_X
        for layer in self.layers:
            assert isinstance(layer, _ExtractionLayer)
            of_shared = [_expert_reference(expert, shared_X) for expert in layer.shared]
            of_own = [
                [_expert_reference(expert, mine_X) for expert in _modules(experts)]
                for experts, mine_X in zip(layer.own, own, strict=True)
            ]
            if layer.shared_gate is not None:
                every = [out for mine in of_own for out in mine] + of_shared
                shared_X = _mix_reference(layer.shared_gate, shared_X, every)
            own = [
                _mix_reference(gate, mine_X, mine + of_shared)
                for gate, mine_X, mine in zip(layer.gates, own, of_own, strict=True)
            ]
        return own


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadInput:
    """What the network knows of its candidates."""

    dense_BS: Tensor
    masses: Sequence[Tensor]
    """Of each table set, (B, W) each."""
    interests: Sequence[Tensor]
    """Of each table set, (B, R) each."""
    common_BX: Tensor
    """Embeddings of candidate, user and context."""

    def of(self, tables: Sequence[int], dropout: nn.Module) -> Tensor:
        """Gives the input that has the interests of some table sets. (B, X)."""
        embedded = dropout(torch.cat([*(self.interests[table] for table in tables), self.common_BX], dim=1))
        return torch.cat([self.dense_BS, *(self.masses[table] for table in tables), embedded], dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShape:
    """What the heads must know to be built."""

    tables: tuple[int, ...]
    """Table set of each target."""
    num_tables: int
    own_dim: int
    """Width of the dense inputs and the embeddings of candidate, user and context."""
    table_dim: int
    """Width that the interest of one table set adds, masses included."""
    tower: tuple[int, ...]
    dropout: float


class TargetHeads(nn.Module):
    """A tower per target, over the experts of the configuration if it has any."""

    def __init__(self, config: Heads, shape: HeadShape) -> None:
        super().__init__()
        self._tables, self._every = shape.tables, tuple(range(shape.num_tables))
        self.dropout = nn.Dropout(shape.dropout)
        self.experts = _experts(config, shape.own_dim + shape.num_tables * shape.table_dim, len(shape.tables))
        width = shape.own_dim + shape.table_dim if self.experts is None else self.experts.out_dim
        self.towers = nn.ModuleList(tower(width, shape.tower, 1) for _ in shape.tables)

    def start_at(self, logit_T: Tensor) -> None:
        """Sets what each tower adds to its logit whatever it reads."""
        for each, logit in zip(typed(self.towers, nn.Sequential), logit_T.tolist(), strict=True):
            last = each[-1]
            assert isinstance(last, nn.Linear)
            nn.init.constant_(last.bias, logit)

    def forward(self, x: HeadInput) -> Tensor:
        """Gives a logit per candidate and target. (B, T)."""
        if self.experts is None:
            read = [x.of([table], self.dropout) for table in self._tables]
        else:
            read = self.experts(x.of(self._every, self.dropout))
        return side_by_side(self.towers, torch.stack(read)).squeeze(2).T

    def reference(self, x: HeadInput) -> Tensor:
        """The same tower by tower; dropout is left out."""
        tables = [[table] for table in self._tables] if self.experts is None else [self._every]
        read = [x.of(each, nn.Identity()) for each in tables]
        if self.experts is not None:
            read = self.experts.reference(read[0])
        return torch.cat([each(read_BX) for each, read_BX in zip(self.towers, read, strict=True)], dim=1)


def _experts(
    config: Heads, in_dim: int, num_targets: int
) -> SharedBottom | MixtureOfExperts | ProgressiveExtraction | None:
    match config:
        case TowerHeads():
            return None
        case SharedBottomHeads():
            return SharedBottom(in_dim, num_targets, config)
        case MmoeHeads():
            return MixtureOfExperts(in_dim, num_targets, config)
        case PleHeads():
            return ProgressiveExtraction(in_dim, num_targets, config)


def _expert(in_dim: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, width), nn.ReLU())


def _outputs(experts: nn.Module, x_BX: Tensor) -> list[Tensor]:
    return [expert(x_BX) for expert in _modules(experts)]


def _mix(gate: nn.Module, x_BX: Tensor, out_BKE: Tensor) -> Tensor:
    """Gives sum_k softmax_k(G x) out_k. (B, E)."""
    weight_BK = torch.softmax(gate(x_BX), dim=1)
    return (weight_BK[:, :, None] * out_BKE).sum(1)


def _mix_reference(gate: nn.Module, x_X: Tensor, outs: Sequence[Tensor]) -> Tensor:
    return torch.softmax(gate(x_X), dim=0) @ torch.stack(list(outs))


def _expert_reference(expert: nn.Module, x_BX: Tensor) -> Tensor:
    """max(0, W x + b) written out."""
    (linear, _) = _modules(expert)
    assert isinstance(linear, nn.Linear)
    return (x_BX @ linear.weight.T + linear.bias).clamp(min=0.0)


def _modules(container: nn.Module) -> list[nn.Module]:
    return list(container.children())
