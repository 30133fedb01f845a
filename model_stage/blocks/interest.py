"""How a block stands in a network: what it gives, one instance per table set, and how each family of blocks is called.

    over pairs      AttentionInput  ->  Attended            PairBlock
    over lists      ListInput       ->  ListInterest        ListBlock
    over histories  ListInput       ->  Answer              `history.HistoryBlock`

A block that is called in another way has an adapter of its own in its file.

Legend: M pairs, B candidates, W attentions, R representation width, D width of a list's rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from pydantic import Field
from torch import nn

from model_stage.blocks.pairs import full_precision
from model_stage.blocks.registry import BlockConfig
from model_stage.config.targets import MatchLevelPosition

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from model_stage.blocks.block_input import BlockInput, Positions, Shape
    from model_stage.blocks.pairs import Attended, AttentionInput
    from model_stage.blocks.sequence import ListInput, ListInterest


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """What one block gives to the targets of one table set."""

    representation_BR: Tensor
    mass_BW: Tensor
    """Numbers that enter the towers as they are, beside the dense inputs; W may be 0. Full precision."""
    weight_WM: Tensor
    """Weight of each pair in each of the block's attentions, or their mean as one row. Full precision."""
    rest_B: Tensor
    """Attention on what is no behavior; of a softmax, one less the sum of the candidate's weights, so 1 where there was
    nothing to attend to."""


class InterestBlock(nn.Module):
    """A block of a network: what it reads of a batch in, an interest per table set out.

    Its answer for a candidate depends on that candidate, its own pairs and their behaviors, and on the user's newest
    behaviors alone.
    """

    def __init__(self, *, out_dim: int, num_masses: int) -> None:
        super().__init__()
        self.out_dim = out_dim
        """Width of every `representation_BR`."""
        self.num_masses = num_masses
        """Width of every `mass_BW`."""

    def forward(self, x: BlockInput) -> list[Interest]:
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
        self, shape: Shape, make: Callable[[Positions], nn.Module], *, positional: bool, num_masses: int = 0
    ) -> None:
        tables = shape.tables if positional else ((),)
        instances = [make(positions) for positions in tables]
        super().__init__(out_dim=int(instances[0].out_dim), num_masses=num_masses)  # type: ignore[arg-type]
        self.tables = nn.ModuleList(instances)
        self._positions, self._repeat = tables, len(shape.tables) // len(tables)

    def forward(self, x: BlockInput) -> list[Interest]:
        """Runs every instance once."""
        instances = zip(self.tables, self._positions, strict=True)
        return [self.read(block, x, positions) for block, positions in instances] * self._repeat

    def read(self, block: nn.Module, x: BlockInput, positions: Positions) -> Interest:
        """Gives the interest that one instance finds."""
        raise NotImplementedError


class PairBlock(PerTable):
    """A block that reads `AttentionInput` and gives `Attended`.

    Args:
        shape: See `PerTable`.
        make: See `PerTable`.
        positional: See `PerTable`.
        num_masses: See `InterestBlock`.
        reads_attention: Whether it reads the attention embeddings.
    """

    def __init__(
        self,
        shape: Shape,
        make: Callable[[Positions], nn.Module],
        *,
        positional: bool,
        num_masses: int,
        reads_attention: bool = False,
    ) -> None:
        super().__init__(shape, make, positional=positional, num_masses=num_masses)
        self._reads_attention = reads_attention

    def forward(self, x: BlockInput) -> list[Interest]:
        """Runs every instance once."""
        pairs = x.pairs if self._reads_attention else x.representations
        rest_B = (pairs.pair_offsets.diff() == 0).to(torch.float32)
        found = [
            Interest(
                representation_BR=one.representation_BR,
                mass_BW=full_precision(one.mass_BW),
                weight_WM=full_precision(one.weight_WM),
                rest_B=rest_B,
            )
            for one in self.attend(pairs, x)
        ]
        return found * self._repeat

    def attend(self, pairs: AttentionInput, x: BlockInput) -> list[Attended]:
        """Gives what each instance finds in the pairs."""
        return [block(pairs) for block in self.tables]


class JointPairBlock(PairBlock):
    """A `PairBlock` whose instances have a static method `together`, which runs all of them in one pass."""

    def attend(self, pairs: AttentionInput, x: BlockInput) -> list[Attended]:
        """Gives what each instance finds in the pairs."""
        return cast("list[Attended]", cast("Any", self.tables[0]).together([*self.tables], pairs))


def without_match_level(shape: Shape) -> Shape:
    """Gives the shape without the positional encodings that are said of a candidate and a behavior."""
    tables = (tuple(p for p in table if not isinstance(p, MatchLevelPosition)) for table in shape.tables)
    return replace(shape, tables=tuple(tables))


class ListConfig(BlockConfig):
    """Options of the blocks that read sequences."""

    scope: Literal["union", "list"]
    """What is one sequence. `union`: the user's newest behaviors, once per request, whatever was retrieved, without the
    match level, which is said of a candidate and a behavior. `list`: what was retrieved for a candidate, once per
    different list."""
    newest: int = Field(default=256, ge=1, le=10_000)
    """Behaviors of the sequence with scope `union`."""

    @property
    def newest_read(self) -> int:
        """See `BlockConfig`."""
        return self.newest if self.scope == "union" else 0

    def readable(self, shape: Shape) -> Shape:
        """Gives the shape with the positional encodings that the rows of the sequence have."""
        return shape if self.scope == "list" else without_match_level(shape)


class ListBlock(PerTable):
    """A block that reads `ListInput`, made of the representations, and gives `ListInterest`.

    Args:
        config: Its options.
        shape: Of the network.
        make: See `PerTable`.
        positional: See `PerTable`.
    """

    def __init__(
        self, config: ListConfig, shape: Shape, make: Callable[[Positions], nn.Module], *, positional: bool
    ) -> None:
        super().__init__(config.readable(shape), make, positional=positional)
        self._newest = config.newest_read

    def read(self, block: nn.Module, x: BlockInput, positions: Positions) -> Interest:
        """Gives the interest that one instance finds."""
        joined, lists = x.lists_with(positions, self._newest)
        found = self.attend(block, joined, x.user_BX.index_select(0, lists.candidate_L))
        weight_M, rest_B = lists.on_pairs(full_precision(found.weight_M), full_precision(found.rest_B))
        return Interest(
            representation_BR=found.representation_BD,
            mass_BW=full_precision(found.representation_BD[:, :0]),
            weight_WM=weight_M[None],
            rest_B=rest_B,
        )

    def attend(self, block: nn.Module, x: ListInput, user_LX: Tensor) -> ListInterest:
        """Runs an instance over the lists; `user_LX` are the embeddings of their users' fields."""
        return cast("ListInterest", block(x))
