"""What the interest blocks of a network read of a batch, and what they must know of the network to be built.

Legend: M pairs, U behaviors of the union, B candidates, A attention width, R representation width, X width of the
user's fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from model_stage.blocks.lists import Lists, newest_lists, retrieved_lists
from model_stage.blocks.pairs import AttentionInput
from model_stage.blocks.position import position_buckets
from model_stage.blocks.sequence import ListInput
from model_stage.config.targets import CalendarPosition, IntervalPosition, MatchLevelPosition, RankPosition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from model_stage.config.targets import Position
    from model_stage.encoding.batch import Batch

    Positions = Sequence[Position]
    """Positional encodings of one table set."""

NODE = "node"
"""Name of the part of an embedding that is the taxonomy path: item and categories."""


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
    history: bool = False
    """Whether blocks that can read what was retrieved or the whole history are to read the history."""


class Embedder(Protocol):
    """Gives the parts of behaviors' embeddings, and candidates', in one table set."""

    def parts(self, rows: Tensor, side_UF: Tensor) -> dict[str, Tensor]:
        """Gives the embedding of each part of behaviors, by name: `NODE`, then every behavior field. (U, D) each."""
        ...

    def nodes(self, rows: Tensor) -> Tensor:
        """Gives the embedding of tree rows. (N, D)."""
        ...


@dataclass(frozen=True, kw_only=True)
class BlockInput:
    """The behaviors and candidates of a batch, and the pairs a selection left; embedded when a block asks for it."""

    batch: Batch
    attention: Embedder
    representation: Embedder
    representation_BR: Tensor
    user_BX: Tensor
    """Embeddings of the user's fields, side by side."""
    encodings: tuple[Position, ...]
    """Of all table sets."""
    kept: Tensor | None
    """Rows of the selected pairs, ascending, int64; None = all pairs."""
    known_buckets: dict[Position, Tensor] = field(default_factory=dict)
    """Buckets already computed; `buckets_of` fills it."""
    known_lists: dict[int, tuple[Lists, Tensor]] = field(default_factory=dict)
    """Lists already found by how many of the newest they hold, and their rows; `lists_with` fills it."""

    @cached_property
    def attention_parts(self) -> dict[str, Tensor]:
        """Parts whose sum is the attention embedding of behaviors, by name. (U, A) each."""
        return self.attention.parts(self.batch.behavior_node_U, self.batch.behavior_side_UF)

    @cached_property
    def pairs(self) -> AttentionInput:
        """The input of a block over pairs that reads both table sets."""
        return replace(
            self.representations,
            attention_UA=fuse(list(self.attention_parts.values())),
            attention_BA=self.attention.nodes(self.batch.candidate_node_B),
        )

    @cached_property
    def representations(self) -> AttentionInput:
        """The input of a block over pairs that reads the representations only."""
        return replace(
            self._selected,
            representation_UR=self._representation_UR,
            buckets=dict(zip(self.encodings, self.buckets_of(self.encodings), strict=True)),
        )

    @cached_property
    def _representation_UR(self) -> Tensor:
        parts = self.representation.parts(self.batch.behavior_node_U, self.batch.behavior_side_UF)
        return fuse(list(parts.values()))

    @cached_property
    def _selected(self) -> AttentionInput:
        """The selected pairs; no behavior is embedded."""
        nothing = self.representation_BR[:0, :0]
        pairs = AttentionInput(
            attention_UA=nothing,
            attention_BA=nothing,
            representation_UR=nothing,
            representation_BR=self.representation_BR,
            behavior_M=self.batch.behavior_M,
            pair_offsets=self.batch.pair_offsets,
            buckets={},
        )
        return pairs if self.kept is None else pairs.take(self.kept)

    def buckets_of(self, positions: Positions) -> list[Tensor]:
        """Gives the bucket of each selected pair under each encoding, int64 each; an encoding is computed once."""
        for position in positions:
            if position not in self.known_buckets:
                bucket_M = self._bucket(position)
                self.known_buckets[position] = bucket_M if self.kept is None else bucket_M.index_select(0, self.kept)
        return [self.known_buckets[position] for position in positions]

    def _bucket(self, position: Position) -> Tensor:
        match position:
            case RankPosition():
                return position_buckets(position, self.batch.rank_M)
            case MatchLevelPosition():
                return position_buckets(position, self.batch.match_level_M)
            case IntervalPosition() | CalendarPosition():
                return position_buckets(position, self.batch.interval_ms_U).index_select(0, self.batch.behavior_M)

    def lists_with(self, positions: Positions, newest: int) -> tuple[ListInput, Lists]:
        """Gives the input of a block over lists, made of the representations, and where the pairs stand in it.

        Args:
            positions: The block's positional encodings.
            newest: The lists are the newest so many behaviors of each user; 0 = what the candidates retrieved.
        """
        if newest not in self.known_lists:
            found = self._lists(newest)
            self.known_lists[newest] = found, self._rows(found.behavior_N)
        lists, values_ND = self.known_lists[newest]
        interval_ms_N = self.batch.interval_ms_U.index_select(0, lists.behavior_N)
        if lists.pair_N is None:
            values = {"rank": lists.rank_N, "interval": interval_ms_N, "calendar": interval_ms_N}
            known = {
                position: position_buckets(position, values[position.kind]) for position in dict.fromkeys(positions)
            }
            buckets = [known[position] for position in positions]
        else:
            buckets = [bucket_M.index_select(0, lists.pair_N) for bucket_M in self.buckets_of(positions)]
        x = ListInput(
            values_ND=values_ND,
            offsets=lists.offsets,
            candidate_BD=self.representation_BR,
            list_B=lists.list_B,
            interval_ms_N=interval_ms_N,
            buckets=buckets,
        )
        return x, lists

    def _rows(self, behavior_N: Tensor) -> Tensor:
        """Gives the representation of some behaviors, (N, R); the others are embedded only where a block reads them."""
        if "_representation_UR" in self.__dict__ or len(behavior_N) > len(self.batch.behavior_node_U):
            return self._representation_UR.index_select(0, behavior_N)
        rows = (x.index_select(0, behavior_N) for x in (self.batch.behavior_node_U, self.batch.behavior_side_UF))
        return fuse(list(self.representation.parts(*rows).values()))

    def _lists(self, newest: int) -> Lists:
        batch, pairs = self.batch, self._selected
        if not newest:
            return retrieved_lists(batch.same_as_B, pairs.behavior_M, pairs.pair_offsets)
        end_L, request_B = batch.behavior_offsets[1:], batch.request_B
        return newest_lists(end_L, batch.num_newest, newest, request_B, pairs.behavior_M, pairs.pair_offsets)


def fuse(parts: Sequence[Tensor]) -> Tensor:
    """Gives the sum of the parts of an embedding, at least one, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
