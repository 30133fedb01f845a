"""What the interest blocks of a network read of a batch, and what each of them gives.

Legend: M pairs, U behaviors of the union, B candidates, A attention width, R representation width, W attentions,
L distinct lists, X width of the user's fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from model_stage.blocks.position import position_buckets
from model_stage.blocks.ragged import DistinctLists, distinct_lists
from model_stage.blocks.sequence import ListInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from model_stage.blocks.pairs import AttentionInput
    from model_stage.config.targets import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a block must know of a network to be built."""

    attention_dim: int
    representation_dim: int
    behavior_fields: tuple[str, ...]
    user_dim: int
    """X, 0 = the schema has no user field with an embedding."""
    tables: tuple[tuple[Position, ...], ...]
    """Positional encodings of each table set: a target's own, or those its group shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Embedded behaviors and candidates, and the pairs a selection left."""

    pairs: AttentionInput
    """Without buckets."""
    attention_parts: Mapping[str, Tensor]
    """Parts whose sum is `pairs.attention_UA`, by name. (U, A) each"""
    rank_M: Tensor
    interval_ms_M: Tensor
    match_level_M: Tensor
    request_B: Tensor
    user_BX: Tensor
    """Embeddings of the user's fields, side by side."""
    known_buckets: dict[Position, Tensor] = field(default_factory=dict)
    """Buckets already computed; `buckets_of` fills it."""

    def buckets_of(self, positions: Sequence[Position]) -> list[Tensor]:
        """Gives the bucket of each pair under each encoding, int64 (M,) each; an encoding is computed once."""
        for position in positions:
            if position not in self.known_buckets:
                self.known_buckets[position] = position_buckets(
                    position,
                    rank_M=self.rank_M,
                    interval_ms_M=self.interval_ms_M,
                    match_level_M=self.match_level_M,
                )
        return [self.known_buckets[position] for position in positions]

    def pairs_with(self, positions: Sequence[Position]) -> AttentionInput:
        """Gives the input of a block over pairs."""
        return replace(self.pairs, buckets=self.buckets_of(positions))

    def lists_with(self, positions: Sequence[Position]) -> tuple[ListInput, DistinctLists]:
        """Gives the input of a block over lists, made of the representations, and how its lists were found."""
        pairs, buckets = self.pairs, self.buckets_of(positions)
        lists = distinct_lists([pairs.behavior_M, *buckets], pairs.candidate_M, self.request_B)
        behavior_N = pairs.behavior_M.index_select(0, lists.pair_N)
        x = ListInput(
            values_ND=pairs.representation_UR.index_select(0, behavior_N),
            offsets=lists.offsets,
            candidate_BD=pairs.representation_BR,
            list_B=lists.list_B,
            interval_ms_N=self.interval_ms_M.index_select(0, lists.pair_N),
            buckets=[bucket_M.index_select(0, lists.pair_N) for bucket_M in buckets],
        )
        return x, lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """What one block says to the targets of one table set."""

    representation_BR: Tensor
    mass_BW: Tensor
    """Numbers that enter the towers as they are, beside the dense inputs; W may be 0. Full precision."""
    weight_M: Tensor
    """Weight of each pair, the mean over the block's attentions. Full precision."""
    rest_B: Tensor
    """Attention on what is no behavior; a block with a softmax: one less the sum of the candidate's weights, so 1 where
    there was nothing to attend to."""


class InterestBlock(nn.Module):
    """A block of a network: evidence in, an interest per table set out.

    Its answer for a candidate depends on that candidate, its own pairs and their behaviors alone.
    """

    def __init__(self, *, out_dim: int, num_masses: int) -> None:
        super().__init__()
        self.out_dim = out_dim
        """Width of every `representation_BR`."""
        self.num_masses = num_masses
        """Width of every `mass_BW`."""

    def forward(self, evidence: Evidence) -> list[Interest]:
        """Gives the interest of each table set, in the order of `Shape.tables`."""
        raise NotImplementedError


class PerTable(InterestBlock):
    """One instance of a block per table set; a block without positional tables has one instance, which serves all.

    Args:
        shape: Of the network.
        make: Gives an instance for the positional encodings of a table set.
        positional: Whether the block has positional tables.
        num_masses: See `InterestBlock`.
    """

    def __init__(
        self, shape: Shape, make: Callable[[Sequence[Position]], nn.Module], *, positional: bool, num_masses: int
    ) -> None:
        tables = shape.tables if positional else ((),)
        instances = [make(positions) for positions in tables]
        super().__init__(out_dim=int(instances[0].out_dim), num_masses=num_masses)  # type: ignore[arg-type]
        self.tables = nn.ModuleList(instances)
        self._positions, self._repeat = tables, len(shape.tables) // len(tables)

    def forward(self, evidence: Evidence) -> list[Interest]:
        """Asks every instance once."""
        asked = zip(self.tables, self._positions, strict=True)
        return [self.read(block, evidence, positions) for block, positions in asked] * self._repeat

    def read(self, block: nn.Module, evidence: Evidence, positions: Sequence[Position]) -> Interest:
        """Gives what one instance says."""
        raise NotImplementedError


def nothing_seen(candidate_M: Tensor, num_candidates: int) -> Tensor:
    """Gives 1 for each candidate without pairs, else 0. float32 (B,)."""
    return (torch.bincount(candidate_M, minlength=num_candidates) == 0).to(torch.float32)
