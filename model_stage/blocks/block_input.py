"""What the interest blocks of a network read of a batch, and what they must know of the network to be built.

Legend: M pairs, U behaviors of the union, B candidates, A attention width, R representation width, X width of the
user's fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from model_stage.blocks.lists import Lists, newest_lists, retrieved_lists
from model_stage.blocks.position import position_buckets
from model_stage.blocks.ragged import lengths_to_offsets
from model_stage.blocks.sequence import ListInput
from model_stage.config.targets import CalendarPosition, IntervalPosition, MatchLevelPosition, RankPosition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from model_stage.blocks.pairs import AttentionInput
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInput:
    """Embedded behaviors and candidates, and the pairs a selection left."""

    batch: Batch
    pairs: AttentionInput
    """Without buckets."""
    attention_parts: Mapping[str, Tensor]
    """Parts whose sum is `pairs.attention_UA`, by name: `NODE`, then every behavior field. (U, A) each."""
    rank_M: Tensor
    interval_ms_U: Tensor
    match_level_M: Tensor
    user_BX: Tensor
    """Embeddings of the user's fields, side by side."""
    known_buckets: dict[Position, Tensor] = field(default_factory=dict)
    """Buckets already computed; `buckets_of` fills it."""

    def buckets_of(self, positions: Positions) -> list[Tensor]:
        """Gives the bucket of each pair under each encoding, int64 (M,) each; an encoding is computed once."""
        for position in positions:
            if position not in self.known_buckets:
                self.known_buckets[position] = self._bucket(position)
        return [self.known_buckets[position] for position in positions]

    def _bucket(self, position: Position) -> Tensor:
        match position:
            case RankPosition():
                return position_buckets(position, self.rank_M)
            case MatchLevelPosition():
                return position_buckets(position, self.match_level_M)
            case IntervalPosition() | CalendarPosition():
                return position_buckets(position, self.interval_ms_U).index_select(0, self.pairs.behavior_M)

    def pairs_with(self, positions: Positions) -> AttentionInput:
        """Gives the input of a block over pairs."""
        return replace(self.pairs, buckets=self.buckets_of(positions))

    def lists_with(self, positions: Positions, newest: int) -> tuple[ListInput, Lists]:
        """Gives the input of a block over lists, made of the representations, and where the pairs stand in it.

        Args:
            positions: The block's positional encodings.
            newest: The lists are the newest so many behaviors of each user; 0 = what the candidates retrieved.
        """
        pairs = self.pairs
        lists = self._lists(newest)
        interval_ms_N = self.interval_ms_U.index_select(0, lists.behavior_N)
        if lists.pair_N is None:
            values = {"rank": lists.rank_N, "interval": interval_ms_N, "calendar": interval_ms_N}
            known = {position: position_buckets(position, values[position.kind]) for position in {*positions}}
            buckets = [known[position] for position in positions]
        else:
            buckets = [bucket_M.index_select(0, lists.pair_N) for bucket_M in self.buckets_of(positions)]
        x = ListInput(
            values_ND=pairs.representation_UR.index_select(0, lists.behavior_N),
            offsets=lists.offsets,
            candidate_BD=pairs.representation_BR,
            list_B=lists.list_B,
            interval_ms_N=interval_ms_N,
            buckets=buckets,
        )
        return x, lists

    def _lists(self, newest: int) -> Lists:
        batch, pairs = self.batch, self.pairs
        pair_offsets = lengths_to_offsets(torch.bincount(pairs.candidate_M, minlength=pairs.num_candidates))
        if not newest:
            return retrieved_lists(batch.same_as_B, pairs.behavior_M, pair_offsets)
        end_L, request_B = batch.behavior_offsets[1:], batch.request_B
        return newest_lists(end_L, batch.num_newest, newest, request_B, pairs.behavior_M, pair_offsets)


def fuse(parts: Sequence[Tensor]) -> Tensor:
    """Gives the sum of the parts of an embedding, at least one, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
