"""What the control reads: a request's lists as rectangles of candidates x K, and weights by name.

Legend: B candidates, U behaviors of the union, M pairs, K of the longest list, D width, N buckets of one encoding,
F fields.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_stage.config.targets import IntervalPosition, MatchLevelPosition, Position, RankPosition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from model_stage.encoding.encoder import EncodedRequest
    from store.types import Bool

_MINUTE_MS = 60_000.0
_DAY_MINUTES = 1_440.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights of a network whose names begin with a prefix."""

    every: Mapping[str, Tensor]
    prefix: str = ""

    def __getitem__(self, name: str) -> Tensor:
        return self.every[self.prefix + name]

    def under(self, name: str) -> Weights:
        """Gives those of a part."""
        return Weights(every=self.every, prefix=f"{self.prefix}{name}.")

    def parts(self, name: str = "") -> list[Weights]:
        """Gives those of each part of a list, or of this one, in order."""
        of = self.under(name) if name else self
        numbers = {int(key[len(of.prefix) :].split(".")[0]) for key in of.every if key.startswith(of.prefix)}
        return [of.under(str(number)) for number in sorted(numbers)]

    def tensors(self, name: str) -> list[Tensor]:
        """Gives a list of weights, in order."""
        found: list[Tensor] = []
        while (key := f"{self.prefix}{name}.{len(found)}") in self.every:
            found.append(self.every[key])
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectangle:
    """The pairs of a request, those of a candidate in a row, the oldest first, and padding behind them."""

    index_BK: Tensor
    """Row in U. int64, 0 in padding."""
    valid_BK: Tensor
    """bool"""
    rank_BK: Tensor
    """1 = the newest of the whole list."""
    interval_ms_U: Tensor
    level_BK: Tensor

    @staticmethod
    def of(encoded: EncodedRequest, wanted: Bool | None = None) -> Rectangle:
        """Lays a request's pairs out, or those of them that are wanted, bool (M,)."""
        lengths = np.diff(encoded.offsets)
        candidate = np.repeat(np.arange(len(lengths)), lengths)
        rank = np.repeat(encoded.offsets[1:], lengths) - np.arange(len(candidate))
        columns = [encoded.pair_behavior, rank, encoded.match_level]
        if wanted is not None:
            columns, candidate = [column[wanted] for column in columns], candidate[wanted]
            lengths = np.bincount(candidate, minlength=len(lengths))
        place = np.arange(len(candidate)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        shape = len(lengths), int(lengths.max(initial=1))
        cell = candidate * shape[1] + place

        def laid_out(column: np.ndarray) -> Tensor:
            cells = np.zeros(shape, np.int64)
            cells.ravel()[cell] = column
            return torch.from_numpy(cells)

        index, rank_BK, level = (laid_out(column) for column in columns)
        return Rectangle(
            index_BK=index,
            valid_BK=torch.arange(shape[1]) < torch.from_numpy(lengths)[:, None],
            rank_BK=rank_BK,
            interval_ms_U=torch.from_numpy(encoded.interval_ms),
            level_BK=level,
        )

    def take(self, rows: Tensor) -> Rectangle:
        """Gives the cells of some candidates."""
        taken = {name: getattr(self, name)[rows] for name in ("index_BK", "valid_BK", "rank_BK", "level_BK")}
        return replace(self, **taken)

    def bucket(self, position: Position) -> Tensor:
        """Gives the bucket of each cell under an encoding, int64 (B, K)."""
        last = position.buckets - 1
        if isinstance(position, RankPosition):
            return (self.rank_BK - 1).clamp(0, last)
        if isinstance(position, MatchLevelPosition):
            return self.level_BK.clamp(0, last)
        assert isinstance(position, IntervalPosition)
        span = np.log1p(position.span_days * _DAY_MINUTES)
        share_U = torch.log1p(self.interval_ms_U.double() / _MINUTE_MS) / span
        return (share_U * position.buckets).long().clamp(0, last)[self.index_BK]
