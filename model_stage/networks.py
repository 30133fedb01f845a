"""The ranking network: embeddings, one temporal-interest attention per positional table set, towers per target.

Legend: U behaviors, M pairs, B candidates, A attention width, R representation width, S dense inputs, T targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.pairs import AttentionInput
from model_stage.blocks.position import position_buckets
from model_stage.blocks.tin import TIN, Interest
from model_stage.schema import StrictModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.encoder import Batch
    from model_stage.schema import Schema
    from model_stage.targets import Target, Targets
    from model_stage.vocabulary import Vocabularies


class NetworkConfig(StrictModel):
    """Shape and regularisation of the network."""

    preset: Literal["tin"] = "tin"
    """Which composition of blocks: `tin` = target-decoupled TIN beside the dense inputs."""
    tower: tuple[int, ...] = (64, 32)
    """Hidden widths of each target's tower."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Applied to what enters the towers from embeddings, never to the dense inputs."""
    node_init: float = Field(default=0.1, gt=0.0)
    """Deviation of the categories' initial embeddings; items start at zero, that is at their category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOutput:
    """What the network says of a batch."""

    logit_BT: Tensor
    weight_MT: Tensor
    """Attention weight of each pair per target."""


class PathEmbedding(nn.Module):
    """Embedding of taxonomy nodes as the sum over their path, plus the fused side-info of behaviors.

    The sum is our choice: it makes a node without data equal to its parent, and keeps one inner product in soft search.
    """

    path: Tensor

    def __init__(self, vocabularies: Vocabularies, behavior_fields: Sequence[str], dim: int, node_init: float) -> None:
        super().__init__()
        tree = vocabularies.tree
        self.register_buffer("path", torch.from_numpy(tree.path.copy()).to(torch.int64), persistent=False)
        self.node = nn.Embedding(len(tree.path), dim, padding_idx=0)
        with torch.no_grad():
            self.node.weight.zero_()
            categories = torch.from_numpy(tree.categories.rows.copy())
            self.node.weight[categories] = torch.randn(len(categories), dim) * node_init
        self.side = nn.ModuleList(
            nn.Embedding(len(vocabularies.behavior_names[name]) + 1, dim) for name in behavior_fields
        )
        for table in self.side:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.02)

    def nodes(self, rows: Tensor) -> Tensor:
        """Gives the fused embedding of tree rows: int64 (N,) -> (N, D)."""
        return nn.functional.embedding_bag(self.path[rows], self.node.weight, mode="sum", padding_idx=0)

    def behaviors(self, rows: Tensor, side_UF: Tensor) -> Tensor:
        """Gives the fused embedding of behaviors, all their fields. (U, D)."""
        total = self.nodes(rows)
        for column, table in enumerate(self.side):
            total = total + table(side_UF[:, column])
        return total


class RankingNetwork(nn.Module):
    """Logits of every target for a batch of candidates.

    A candidate's logits depend on its own row, pairs and behaviors alone: there is no normalisation over the batch and
    no padding.
    """

    dense_mean: Tensor
    dense_scale: Tensor

    def __init__(
        self,
        schema: Schema,
        targets: Targets,
        vocabularies: Vocabularies,
        config: NetworkConfig,
        num_dense: int,
    ) -> None:
        super().__init__()
        self._targets: tuple[Target, ...] = targets.targets
        self._table_names = list(dict.fromkeys(target.table_name for target in targets.targets))
        tree_options = (vocabularies, schema.behavior_fields)
        self.attention = PathEmbedding(*tree_options, schema.attention_dim, config.node_init)
        self.representation = PathEmbedding(*tree_options, schema.representation_dim, config.node_init)
        first = {t.table_name: t for t in reversed(targets.targets)}
        self.interest = nn.ModuleList(
            TIN(first[name].positions, schema.attention_dim, schema.representation_dim) for name in self._table_names
        )
        fields = [f for part in ("candidate", "user", "context") for f in schema.categorical(part)]
        self.categorical = nn.ModuleList(nn.Embedding(len(vocabularies.categorical[f.name]) + 2, f.dim) for f in fields)
        self.register_buffer("dense_mean", torch.zeros(num_dense))
        self.register_buffer("dense_scale", torch.ones(num_dense))
        embedded = 2 * schema.representation_dim + sum(f.dim for f in fields)
        self.dropout = nn.Dropout(config.dropout)
        self.towers = nn.ModuleList(_tower(num_dense + 1 + embedded, config.tower) for _ in targets.targets)

    def fit_dense(self, dense_NS: Tensor) -> None:
        """Sets mean and scale of the dense inputs from training rows; a constant column is scaled by 1."""
        known = torch.nan_to_num(dense_NS)
        present = ~torch.isnan(dense_NS)
        count = present.sum(0).clamp(min=1)
        mean = known.sum(0) / count
        variance = (torch.where(present, dense_NS - mean, 0.0) ** 2).sum(0) / count
        self.dense_mean.copy_(mean)
        self.dense_scale.copy_(torch.where(variance > 1e-12, variance.sqrt(), 1.0))

    def forward(self, batch: Batch) -> NetworkOutput:
        """Scores a batch."""
        num_candidates = len(batch.candidate_node_B)
        representation_BR = self.representation.nodes(batch.candidate_node_B)
        shared = {
            "attention_UA": self.attention.behaviors(batch.behavior_node_U, batch.behavior_side_UF),
            "attention_BA": self.attention.nodes(batch.candidate_node_B),
            "representation_UR": self.representation.behaviors(batch.behavior_node_U, batch.behavior_side_UF),
            "representation_BR": representation_BR,
            "behavior_M": batch.behavior_M,
            "candidate_M": batch.candidate_M,
        }
        interest: dict[str, Interest] = {}
        for name, block in zip(self._table_names, self.interest, strict=True):
            positions = next(t.positions for t in self._targets if t.table_name == name)
            buckets = [
                position_buckets(
                    position,
                    rank_M=batch.rank_M,
                    interval_ms_M=batch.interval_ms_M,
                    match_level_M=batch.match_level_M,
                )
                for position in positions
            ]
            interest[name] = block(AttentionInput(**shared, buckets=buckets))
        dense_BS = torch.nan_to_num((batch.dense_BS - self.dense_mean) / self.dense_scale).clamp(-10.0, 10.0)
        fields = [table(batch.categorical_BF[:, at]) for at, table in enumerate(self.categorical)]
        common = torch.cat([representation_BR, *fields], dim=1)
        logits, weights = [], []
        for target, tower in zip(self._targets, self.towers, strict=True):
            found = interest[target.table_name]
            embedded = self.dropout(torch.cat([found.representation_BR, common], dim=1))
            x = torch.cat([dense_BS, found.mass_B[:, None], embedded], dim=1)
            logits.append(tower(x).view(num_candidates))
            weights.append(found.weight_M)
        return NetworkOutput(logit_BT=torch.stack(logits, dim=1), weight_MT=torch.stack(weights, dim=1))


def _tower(width: int, hidden: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out in hidden:
        layers += [nn.Linear(width, out), nn.ReLU()]
        width = out
    return nn.Sequential(*layers, nn.Linear(width, 1))
