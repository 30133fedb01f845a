"""Blocks over lists as parts of a network: their options in a preset, and how each is asked.

They read the representations. Candidates of a request that retrieved the same behaviors share a list.

Legend: M pairs, B candidates, L lists, D width, J table sets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.hierarchy import Hierarchy, HierarchyConfig
from model_stage.blocks.hstu import HSTU, HSTUConfig
from model_stage.blocks.linear_attention import LinearAttention
from model_stage.blocks.longer import Longer
from model_stage.blocks.longer_tokens import LongerConfig
from model_stage.blocks.memory_bank import MemoryBank
from model_stage.blocks.pairs import full_precision, list_pairs
from model_stage.blocks.sasrec import SASRecInterest, TargetDecoupledSASRec
from model_stage.blocks.sdim import SDIM
from model_stage.blocks.sparse_attention import SparseAttention, SparseConfig
from model_stage.config.targets import Position
from model_stage.networks.block_input import Evidence, Interest, InterestBlock, PerTable, Shape, nothing_seen
from model_stage.networks.pair_blocks import BlockConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.blocks.sequence import ListInterest


class OverLists(PerTable):
    """A block that reads `ListInput` and gives `ListInterest`."""

    def read(self, block: nn.Module, evidence: Evidence, positions: Sequence[Position]) -> Interest:
        """Gives what one instance says."""
        x, _ = evidence.lists_with(positions)
        return _interest(cast("ListInterest", block(x)))


class OverListsAndUsers(PerTable):
    """LONGER: reads a user embedding per list besides, a projection of the user's fields, zeros where it has none."""

    def __init__(self, shape: Shape, config: LongerConfig) -> None:
        super().__init__(shape, lambda positions: Longer(config), positional=False, num_masses=0)
        self.user = nn.Linear(shape.user_dim, config.dim, bias=False) if shape.user_dim else None

    def read(self, block: nn.Module, evidence: Evidence, positions: Sequence[Position]) -> Interest:
        """Gives what one instance says."""
        x, lists = evidence.lists_with(positions)
        user_LX = evidence.user_BX.index_select(0, lists.candidate_L)
        user_LD = x.values_ND.new_zeros(len(user_LX), x.values_ND.shape[1]) if self.user is None else self.user(user_LX)
        return _interest(cast("ListInterest", block(x, user_LD)))


class OverPooledLists(PerTable):
    """A block that gives a representation, and its weights when asked: SDIM and the memory bank."""

    def __init__(self, shape: Shape, config: SdimBlock | MemoryBlock) -> None:
        def make(positions: Sequence[Position]) -> SDIM | MemoryBank:
            if isinstance(config, SdimBlock):
                return SDIM(shape.representation_dim, config.groups, config.bits)
            return MemoryBank(positions, shape.representation_dim, config.slots)

        self._softmax = isinstance(config, MemoryBlock)
        super().__init__(shape, make, positional=self._softmax, num_masses=0)

    def read(self, block: nn.Module, evidence: Evidence, positions: Sequence[Position]) -> Interest:
        """Gives what one instance says."""
        x, _ = evidence.lists_with(positions)
        representation_BD = block(x)
        nothing_B = nothing_seen(evidence.pairs.candidate_M, len(x.list_B))
        return Interest(
            representation_BR=representation_BD,
            mass_BW=_no_mass(representation_BD),
            weight_M=full_precision(cast("SDIM | MemoryBank", block).weights(x)),
            rest_B=nothing_B if self._softmax else torch.zeros_like(nothing_B),
        )


class OverListsByTarget(InterestBlock):
    """SASRec: one block serves every table set, for its lower layers are shared. Its score is its mass."""

    def __init__(self, shape: Shape, config: SasrecBlock) -> None:
        super().__init__(out_dim=shape.representation_dim, num_masses=1)
        self._shared, self._tables = config.shared, shape.tables
        self.block = TargetDecoupledSASRec(
            config.shared, shape.tables, shape.representation_dim, config.heads, config.layers
        )

    def forward(self, evidence: Evidence) -> list[Interest]:
        """See `InterestBlock`."""
        sets = (self._shared, *self._tables)
        joined, lists = evidence.lists_with([position for positions in sets for position in positions])
        rows = iter(joined.buckets)
        shared, *own = [[next(rows) for _ in positions] for positions in sets]
        found = cast("SASRecInterest", self.block(replace(joined, buckets=shared), own))
        row_M, candidate_M = list_pairs(lists.offsets, lists.list_B)
        nothing_B = nothing_seen(candidate_M, len(lists.list_B))
        return [
            Interest(
                representation_BR=found.representation_BJD[:, table],
                mass_BW=full_precision(found.score_BJ[:, table : table + 1]),
                weight_M=full_precision(found.users.weight_NJ[:, table]).index_select(0, row_M),
                rest_B=nothing_B,
            )
            for table in range(len(self._tables))
        ]


def _interest(found: ListInterest) -> Interest:
    return Interest(
        representation_BR=found.representation_BD,
        mass_BW=_no_mass(found.representation_BD),
        weight_M=full_precision(found.weight_M),
        rest_B=full_precision(found.rest_B),
    )


def _no_mass(representation_BD: Tensor) -> Tensor:
    return full_precision(representation_BD[:, :0])


class SasrecBlock(BlockConfig):
    """Target-decoupled SASRec: `blocks.sasrec`."""

    kind: Literal["sasrec"]
    shared: tuple[Position, ...]
    """Positional encodings of the layers that the targets share; the last layer has the targets' own."""
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=0, le=16)
    """Shared layers; every table set has one more of its own."""

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        return OverListsByTarget(shape, self)


class HstuBlock(BlockConfig):
    """HSTU: `blocks.hstu`. It has its own relative positions, the same for all targets."""

    kind: Literal["hstu"]
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=1, le=16)
    scale_length: int = Field(ge=1)
    """About the number of rows of a list."""

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        config = HSTUConfig(
            dim=shape.representation_dim, heads=self.heads, layers=self.layers, scale_length=self.scale_length
        )
        return OverLists(shape, lambda positions: HSTU(config), positional=False, num_masses=0)


class LongerBlock(BlockConfig):
    """LONGER: `blocks.longer`. It has its own positions, the same for all targets."""

    kind: Literal["longer"]
    merge: int = Field(ge=1, le=64)
    recent: int = Field(ge=1)
    layers: int = Field(ge=0, le=16)
    heads: int = Field(ge=1, le=64)

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        config = LongerConfig(
            dim=shape.representation_dim,
            merge=self.merge,
            recent=self.recent,
            layers=self.layers,
            heads=self.heads,
        )
        return OverListsAndUsers(shape, config)


class LinearBlock(BlockConfig):
    """Linear attention: `blocks.linear_attention`."""

    kind: Literal["linear"]
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=1, le=16)

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        dims = shape.representation_dim, self.heads, self.layers
        return OverLists(shape, lambda positions: LinearAttention(positions, *dims), positional=True, num_masses=0)


class SparseBlock(BlockConfig):
    """Local windows and global tokens: `blocks.sparse_attention`."""

    kind: Literal["sparse"]
    window: int = Field(ge=1)
    global_tokens: int = Field(ge=1, le=64)
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=1, le=16)

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        config = SparseConfig(
            dim=shape.representation_dim,
            window=self.window,
            global_tokens=self.global_tokens,
            heads=self.heads,
            layers=self.layers,
        )
        return OverLists(shape, lambda positions: SparseAttention(positions, config), positional=True, num_masses=0)


class HierarchyBlock(BlockConfig):
    """Items, sessions, user: `blocks.hierarchy`."""

    kind: Literal["hierarchy"]
    gap_minutes: float = Field(ge=0.0)
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=0, le=16)

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        config = HierarchyConfig(
            dim=shape.representation_dim, gap_minutes=self.gap_minutes, heads=self.heads, layers=self.layers
        )
        return OverLists(shape, lambda positions: Hierarchy(positions, config), positional=True, num_masses=0)


class SdimBlock(BlockConfig):
    """Hash collisions: `blocks.sdim`."""

    kind: Literal["sdim"]
    groups: int = Field(ge=1)
    bits: int = Field(ge=1, le=16)

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        return OverPooledLists(shape, self)


class MemoryBlock(BlockConfig):
    """Memory bank: `blocks.memory_bank`."""

    kind: Literal["memory"]
    slots: int = Field(ge=1, le=1024)

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        return OverPooledLists(shape, self)
