"""Blocks over pairs as parts of a network: their options in a preset, and how each is asked.

Legend: M pairs, B candidates, W attentions, A attention width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field
from torch import nn

from model_stage.blocks.dare import DARE
from model_stage.blocks.decoupled_side_info import DecoupledSideInfoTIN, SubsetEmbedding
from model_stage.blocks.din import DIN
from model_stage.blocks.eta import ETA
from model_stage.blocks.pairs import Attended, AttentionInput, full_precision, spread_weights
from model_stage.blocks.pool import MeanPool
from model_stage.blocks.sim_attention import SIMAttention
from model_stage.blocks.simhash import MAX_BITS
from model_stage.blocks.stacked_tin import StackedTIN
from model_stage.blocks.tin import TIN
from model_stage.blocks.twin import TWIN
from model_stage.config.schema import BUILT_IN, StrictModel
from model_stage.networks.block_input import Evidence, Interest, InterestBlock, PerTable, Shape, nothing_seen
from model_stage.networks.embeddings import NODE, fuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.config.targets import Position


class BlockConfig(StrictModel):
    """Options of one block of a preset."""

    reads_attention: ClassVar[bool] = False
    """Whether its answer depends on the attention tables, which soft search uses, so that training teaches them."""

    def build(self, shape: Shape) -> InterestBlock:
        """Gives the block, untrained.

        Raises:
            ValueError: The options do not fit the network's widths; names the option.
        """
        raise NotImplementedError


class OverPairs(PerTable):
    """A block that reads `AttentionInput` and gives `Attended`."""

    def read(self, block: nn.Module, evidence: Evidence, positions: Sequence[Position]) -> Interest:
        """Gives what one instance says."""
        x = evidence.pairs_with(positions)
        return _interest(self.attend(block, x, evidence), x)

    def attend(self, block: nn.Module, x: AttentionInput, evidence: Evidence) -> Attended:
        """Asks the block."""
        return cast("Attended", block(x))


class OverSubsets(OverPairs):
    """Decoupled-side-info TIN: the parts of the attention embedding, a few at a time.

    A candidate is a taxonomy node and has no domain, action or scene: in a subset without `NODE` it asks through a
    projection of its node's attention vector. Our choice.
    """

    def __init__(self, shape: Shape, subsets: Sequence[Sequence[str]]) -> None:
        width = shape.attention_dim
        super().__init__(
            shape,
            lambda positions: DecoupledSideInfoTIN(positions, [width] * len(subsets), shape.representation_dim),
            positional=True,
            num_masses=len(subsets),
        )
        self._subsets = [tuple(subset) for subset in subsets]
        self.asks = nn.ModuleList(
            nn.Identity() if NODE in subset else nn.Linear(width, width, bias=False) for subset in subsets
        )

    def attend(self, block: nn.Module, x: AttentionInput, evidence: Evidence) -> Attended:
        """Asks the block with the embeddings of its subsets."""
        subsets = [
            SubsetEmbedding(
                attention_UA=fuse([evidence.attention_parts[name] for name in names]),
                attention_BA=ask(x.attention_BA),
            )
            for names, ask in zip(self._subsets, self.asks, strict=True)
        ]
        return cast("Attended", block(x, subsets))


class SearchedPairs(OverPairs):
    """A block whose own scores choose the pairs that it attends over; the others have weight 0."""

    def __init__(self, shape: Shape, config: TwinBlock) -> None:
        def make(positions: Sequence[Position]) -> TWIN:
            dim = shape.representation_dim
            return TWIN(positions, dim, config.cross_dim, config.heads, config.head_dim)

        super().__init__(shape, make, positional=True, num_masses=config.heads)
        self._top_k = config.top_k

    def attend(self, block: nn.Module, x: AttentionInput, evidence: Evidence) -> Attended:
        """Searches, then attends."""
        kept = cast("TWIN", block).search(x, self._top_k)
        found = cast("Attended", block(x.take(kept)))
        return Attended(
            representation_BR=found.representation_BR,
            mass_BW=found.mass_BW,
            weight_MW=spread_weights(found.weight_MW, kept, len(x.behavior_M)),
        )


def _interest(found: Attended, x: AttentionInput) -> Interest:
    return Interest(
        representation_BR=found.representation_BR,
        mass_BW=full_precision(found.mass_BW),
        weight_M=full_precision(found.weight_MW).mean(1),
        rest_B=nothing_seen(x.candidate_M, x.num_candidates),
    )


class TinBlock(BlockConfig):
    """Temporal interest: `blocks.tin`."""

    kind: Literal["tin"]
    reads_attention = True

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        dims = shape.attention_dim, shape.representation_dim
        return OverPairs(shape, lambda positions: TIN(positions, *dims), positional=True, num_masses=1)


class StackedTinBlock(BlockConfig):
    """Stacked temporal interest: `blocks.stacked_tin`."""

    kind: Literal["stacked_tin"]
    layers: int = Field(ge=1, le=8)
    """Layer l crosses l behaviors."""
    reads_attention = True

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        dims = shape.attention_dim, shape.representation_dim
        return OverPairs(
            shape, lambda positions: StackedTIN(positions, *dims, self.layers), positional=True, num_masses=self.layers
        )


class SideInfoTinBlock(BlockConfig):
    """Decoupled side-info: `blocks.decoupled_side_info`."""

    kind: Literal["side_info_tin"]
    subsets: tuple[tuple[str, ...], ...] = Field(min_length=1)
    """Parts each attention reads: node, domain, action, scene, or a declared field of behaviors. One of the first four
    that the schema does not fuse into behaviors is left out, and a subset without parts with it."""
    reads_attention = True

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        known = (NODE, *shape.behavior_fields)
        strange = [name for subset in self.subsets for name in subset if name not in (*known, *BUILT_IN)]
        if strange:
            raise ValueError(f"subsets: {strange[0]!r} is no part of behaviors; there are {', '.join(known)}")
        kept = [[name for name in subset if name in known] for subset in self.subsets]
        subsets = [subset for subset in kept if subset]
        if not subsets:
            raise ValueError(f"subsets: none has a part that behaviors have: {', '.join(known)}")
        return OverSubsets(shape, subsets)


class DareBlock(BlockConfig):
    """Decoupled embeddings: `blocks.dare`. The whole selection is attended over: search has chosen it."""

    kind: Literal["dare"]
    time_dim: int = Field(ge=1, le=256)
    reads_attention = True

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        dims = shape.representation_dim, self.time_dim
        return OverPairs(shape, lambda positions: DARE(positions, *dims), positional=True, num_masses=1)


class DinBlock(BlockConfig):
    """Attention by a perceptron: `blocks.din`."""

    kind: Literal["din"]
    hidden: tuple[int, ...] = Field(min_length=1)

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        return OverPairs(
            shape, lambda positions: DIN(shape.representation_dim, self.hidden), positional=False, num_masses=1
        )


class SimBlock(BlockConfig):
    """Multi-head target attention with time: `blocks.sim_attention`."""

    kind: Literal["sim"]
    time_dim: int = Field(ge=1, le=256)
    heads: int = Field(ge=1, le=64)
    head_dim: int = Field(ge=1, le=256)

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        dims = shape.representation_dim, self.time_dim, self.heads, self.head_dim
        return OverPairs(
            shape, lambda positions: SIMAttention(positions, *dims), positional=True, num_masses=self.heads
        )


class TwinBlock(BlockConfig):
    """One scorer for search and ranking: `blocks.twin`."""

    kind: Literal["twin"]
    cross_dim: int = Field(ge=1, le=256)
    heads: int = Field(ge=1, le=64)
    head_dim: int = Field(ge=1, le=256)
    top_k: int = Field(ge=1)
    """Pairs per candidate that the block's own scores keep."""

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        return SearchedPairs(shape, self)


class EtaBlock(BlockConfig):
    """Search by SimHash, then target attention: `blocks.eta`."""

    kind: Literal["eta"]
    bits: int = Field(ge=1, le=MAX_BITS)
    top_k: int = Field(ge=1)
    time_dim: int = Field(ge=1, le=256)
    heads: int = Field(ge=1, le=64)
    head_dim: int = Field(ge=1, le=256)

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""

        def make(positions: Sequence[Position]) -> ETA:
            dim = shape.representation_dim
            attention = SIMAttention(positions, dim, self.time_dim, self.heads, self.head_dim)
            return ETA(attention, dim, self.bits, self.top_k)

        return OverPairs(shape, make, positional=True, num_masses=self.heads)


class PoolBlock(BlockConfig):
    """The mean of what was selected: `blocks.pool`."""

    kind: Literal["pool"]

    def build(self, shape: Shape) -> InterestBlock:
        """See `BlockConfig`."""
        return OverPairs(shape, lambda positions: MeanPool(shape.representation_dim), positional=False, num_masses=1)
