"""The ranking network: embeddings, the interest blocks of a preset, and heads.

Legend: M pairs, K selected pairs, B candidates, A attention width, R representation width, S dense inputs, T targets,
J positional table sets, F categorical and bucketed fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model_stage.blocks.block_input import BlockInput, Shape
from model_stage.blocks.interest import InterestBlock
from model_stage.blocks.pairs import full_precision, spread_weights, typed
from model_stage.errors import ConfigError
from model_stage.networks.conditional import joint_logits
from model_stage.networks.embeddings import PathEmbedding, bag_table, field_table
from model_stage.networks.heads import HeadInput, HeadShape, TargetHeads
from model_stage.networks.parameters import ParameterGroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_stage.blocks.interest import Interest
    from model_stage.blocks.registry import BlockConfig
    from model_stage.config.schema import Part, Schema
    from model_stage.config.targets import Position, Targets
    from model_stage.encoding.batch import Batch
    from model_stage.encoding.vocabulary import Vocabularies
    from model_stage.networks.config import NetworkConfig

_FITTED_ROWS = 1 << 16
"""Rows of dense inputs to look at at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOutput:
    """What the network says of a batch."""

    logit_BT: Tensor
    """Of each target's own probability, its conditions multiplied in."""
    interests: Sequence[tuple[Interest, ...]]
    """What each target read of every block."""
    kept: Tensor | None
    """Rows of the pairs that the blocks saw; None = all."""
    num_pairs: int
    """M."""

    @property
    def weight_MT(self) -> Tensor:
        """Attention weight of each pair per target, the mean over the blocks; 0 where a selection left the pair out."""
        if not self.interests[0]:
            return self.logit_BT.new_zeros((self.num_pairs, len(self.interests)))
        weight_TK = torch.stack(
            [torch.stack([one.weight_WM.mean(0) for one in each]).mean(0) for each in self.interests]
        )
        return (weight_TK if self.kept is None else spread_weights(weight_TK, self.kept, self.num_pairs)).T

    @property
    def rest_BT(self) -> Tensor:
        """Attention on what is no behavior; of blocks with a softmax, one less the sum of the candidate's weights."""
        if not self.interests[0]:
            return torch.ones_like(self.logit_BT)
        return torch.stack([torch.stack([one.rest_B for one in each]).mean(0) for each in self.interests], dim=1)


class RankingNetwork(nn.Module):
    """Logits of every target for a batch of candidates.

    A candidate's logits depend on its own row, pairs and behaviors and on the user's newest alone: there is no
    normalisation over the batch and no padding.

    Raises:
        ConfigError: The preset's blocks do not fit the schema's widths; names preset, block and option.
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
        preset = config.preset
        self._preset, self._given = preset, targets.given
        table_of, tables = table_sets(targets, shared=preset.positions == "shared")
        self._table_of = table_of
        self._encodings = tuple(dict.fromkeys(position for positions in tables for position in positions))
        tree_options = (vocabularies, schema)
        self.attention = PathEmbedding(*tree_options, schema.attention_dim, config.node_init)
        self.representation = PathEmbedding(*tree_options, schema.representation_dim, config.node_init)
        parts: tuple[Part, ...] = ("candidate", "user", "context")
        single = [f for part in parts for f in schema.embedded(part)]
        listed = [f for part in parts for f in schema.multi_valued(part)]
        every = [*single, *listed]
        shape = Shape(
            attention_dim=schema.attention_dim,
            representation_dim=schema.representation_dim,
            behavior_fields=schema.behavior_fields,
            user_dim=sum(f.width for f in every if f.part == "user"),
            tables=tables,
            history=preset.selection == "history",
        )
        self.interest = nn.ModuleList(_build(preset.name, block, shape) for block in preset.blocks)
        self._user_columns = [at for at, f in enumerate(every) if f.part == "user"]
        self.categorical = nn.ModuleList(field_table(vocabularies, f) for f in single)
        self.multi_valued = nn.ModuleList(bag_table(vocabularies, f) for f in listed)
        self.register_buffer("dense_mean", torch.zeros(num_dense))
        self.register_buffer("dense_scale", torch.ones(num_dense))
        self.towers = TargetHeads(
            config.heads,
            HeadShape(
                tables=table_of,
                num_tables=len(tables),
                own_dim=num_dense + schema.representation_dim + sum(f.width for f in every),
                table_dim=sum(block.out_dim + block.num_masses for block in self._blocks),
                tower=config.tower,
                dropout=config.dropout,
            ),
        )

    @property
    def _blocks(self) -> list[InterestBlock]:
        return typed(self.interest, InterestBlock)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Gives how the parts of the network are trained; every parameter is in one of them."""
        tables = (self.representation, self.categorical, self.multi_valued)
        return (
            ParameterGroup(role="attention", modules=(self.attention,)),
            ParameterGroup(role="table", modules=tables),
            ParameterGroup(role="block", modules=(self.interest,)),
            ParameterGroup(role="head", modules=(self.towers,)),
        )

    def node_vectors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Gives the vectors of all nodes, summed over their paths, by the embedding they are of. (V, D) each."""
        with torch.no_grad():
            return {
                name: table.summed_nodes(torch.arange(len(table.path))).to(dtype)
                for name, table in self._path_embeddings.items()
            }

    def prepare_for_serving(self, node_vectors: Mapping[str, Tensor]) -> None:
        """Makes this a network that only scores: in evaluation mode, without gradients, with vectors looked up.

        Args:
            node_vectors: As the method of that name gave them; kept, not copied.

        Raises:
            ValueError: They are not those of this network; names the embedding.
        """
        self.eval().requires_grad_(False)
        for name, table in self._path_embeddings.items():
            shape, expected = tuple(node_vectors[name].shape), tuple(table.node.weight.shape)
            if shape != expected:
                raise ValueError(f"{name}: vectors of shape {shape} for a table of shape {expected}")
            table.served_nodes = node_vectors[name]

    @property
    def served_type(self) -> torch.dtype:
        """Type of the vectors of nodes that are looked up, of a network that only scores."""
        assert self.attention.served_nodes is not None
        return self.attention.served_nodes.dtype

    @property
    def _path_embeddings(self) -> dict[str, PathEmbedding]:
        return {"attention": self.attention, "representation": self.representation}

    def fit_dense(self, dense_NS: Tensor) -> None:
        """Sets mean and scale of the dense inputs from training rows, some at a time; a constant column is scaled by 1.

        Args:
            dense_NS: float32, NaN = missing; may be mapped from a file.
        """
        parts = torch.split(dense_NS, _FITTED_ROWS)
        zero_S = torch.zeros(dense_NS.shape[1], dtype=torch.float64)
        count = sum(((~part.isnan()).sum(0) for part in parts), zero_S).clamp(min=1)
        mean = sum((part.nansum(0, dtype=torch.float64) for part in parts), zero_S) / count
        variance = sum((((part - mean) ** 2).nansum(0) for part in parts), zero_S) / count
        self.dense_mean.copy_(mean)
        self.dense_scale.copy_(torch.where(variance > 1e-12, variance.sqrt(), 1.0))

    def fit_shares(self, labels_NT: Tensor) -> None:
        """Has every target start at its share of positives, so that no step is spent on finding out how rare it is.

        Args:
            labels_NT: float32, NaN = unknown; may be mapped from a file.
        """
        parts = torch.split(labels_NT, _FITTED_ROWS)
        zero_T = torch.zeros(labels_NT.shape[1], dtype=torch.float64)
        known = sum(((~part.isnan()).sum(0) for part in parts), zero_T)
        # Half a positive and half a negative more: no share is 0 or 1.
        share = (sum((part.nansum(0, dtype=torch.float64) for part in parts), zero_T) + 0.5) / (known + 1.0)
        of_condition = [1.0 if given is None else float(share[given]) for given in self._given]
        self.towers.start_at(torch.logit((share / torch.tensor(of_condition)).clamp(1e-6, 1 - 1e-6)))

    def forward(self, batch: Batch) -> NetworkOutput:
        """Scores a batch."""
        fields = [table(batch.categorical_BF[:, at]) for at, table in enumerate(self.categorical)]
        fields += [table(*lists) for table, lists in zip(self.multi_valued, batch.multi_valued, strict=True)]
        representation_BR = self.representation.nodes(batch.candidate_node_B)
        kept = self._preset.kept(batch.source_M, batch.candidate_M) if self._blocks else None
        x = BlockInput(
            batch=batch,
            attention=self.attention,
            representation=self.representation,
            representation_BR=representation_BR,
            user_BX=torch.cat([representation_BR[:, :0], *(fields[at] for at in self._user_columns)], dim=1),
            encodings=self._encodings,
            kept=kept,
        )
        # By table set; a preset without blocks reads no behavior.
        found = list(zip(*(block(x) for block in self.interest), strict=True)) or [()] * (max(self._table_of) + 1)
        dense_BS = torch.nan_to_num((batch.dense_BS - self.dense_mean) / self.dense_scale).clamp(-10.0, 10.0)
        nothing_B0 = dense_BS[:, :0]
        tower_BT = self.towers(
            HeadInput(
                dense_BS=dense_BS,
                masses=[torch.cat([nothing_B0, *(one.mass_BW for one in table)], dim=1) for table in found],
                interests=[
                    torch.cat([nothing_B0, *(one.representation_BR for one in table)], dim=1) for table in found
                ],
                common_BX=torch.cat([representation_BR, *fields], dim=1),
            )
        )
        return NetworkOutput(
            logit_BT=joint_logits(full_precision(tower_BT), self._given),
            interests=[found[table] for table in self._table_of],
            kept=kept,
            num_pairs=len(batch.behavior_M),
        )


def table_sets(targets: Targets, *, shared: bool) -> tuple[tuple[int, ...], tuple[tuple[Position, ...], ...]]:
    """Gives the positional table set of each target, by number, and the encodings of each set.

    Args:
        targets: The targets.
        shared: One set with every encoding that any target has, for all of them.
    """
    if shared:
        every = dict.fromkeys(position for target in targets.targets for position in target.positions)
        return (0,) * len(targets.targets), (tuple(every),)
    positions = {target.table_name: target.positions for target in targets.targets}
    names = list(positions)
    return tuple(names.index(target.table_name) for target in targets.targets), tuple(positions.values())


def _build(preset: str, block: BlockConfig, shape: Shape) -> InterestBlock:
    try:
        return block.build(shape)
    except ValueError as exc:
        widths = f"attention_dim {shape.attention_dim}, representation_dim {shape.representation_dim}"
        raise ConfigError(f"preset {preset!r}: block {block.kind!r} does not fit the schema ({widths}): {exc}") from exc
