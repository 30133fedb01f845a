"""HSTU: pointwise attention without softmax, gated, with a relative bias of position and time.

    U, V, Q, K = split(SiLU(f1(LN(X))))
    A_ij       = SiLU(<q_i, k_j> + rab_ij) / n      for j <= i, per head; else 0
    Y          = X + f2(LN(A V) * U)
    rab_ij     = p[i - j] + t[bucket(time_i - time_j)]

Source: HSTU, arXiv 2402.17152, formulas and the candidates appended behind the history. Our choice: n is a constant of
the block, never the length of a list or of a rectangle, since either would let a later row or a batch-mate change an
earlier answer; the biases are per head; time is bucketed on a log scale, positions one by one up to the last bucket;
the time of a candidate is the as-of time; a last normalisation bounds what leaves the block.

A candidate sees its list and itself and nothing sees a candidate, so a list is computed once for all its candidates.
The attention is no softmax: weights may be negative and sum to anything; that is HSTU's point, intensity survives.

Legend: N rows of L lists, T cells per list, C candidates per list, B candidates, D width, H heads, E = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import silu

from model_stage.blocks.interest import ListBlock, ListConfig
from model_stage.blocks.pairs import full_precision, typed
from model_stage.blocks.ragged import Bucket, Layout, gather
from model_stage.blocks.registry import register
from model_stage.blocks.sequence import Keys, LayerNorm, ListInput, ListInterest, contract, lists_of, weights_of
from model_stage.config.targets import IntervalPosition, RankPosition
from store.types import DAY_MS

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Shape

MINUTE_MS = 60_000
ROWS_AT_ONCE = 256
"""Queries of a list formed at a time: bounds the memory of (query, key) pairs, and spares most of those never seen."""
RANK = RankPosition(kind="rank", buckets=64)
"""Positions apart beyond the last bucket share it."""
INTERVAL = IntervalPosition(kind="interval", buckets=32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """U, V, Q, K of some tokens, (..., H, E) each."""

    gate: Tensor
    value: Tensor
    query: Tensor
    key: Tensor


class _Layer(nn.Module):
    """One layer's projections and bias tables."""

    def __init__(self, dim: int, config: HSTUConfig, rank: RankPosition, interval: IntervalPosition) -> None:
        super().__init__()
        self.heads, self._scale_length, self._interval = config.heads, config.scale_length, interval
        self.norm_in, self.norm_out = LayerNorm(dim, eps=1e-6), LayerNorm(dim, eps=1e-6)
        self.project_in = nn.Linear(dim, 4 * dim)
        self.project_out = nn.Linear(dim, dim)
        self.rank_bias = nn.Parameter(torch.randn(rank.buckets, config.heads) * 0.02)
        self.interval_bias = nn.Parameter(torch.randn(interval.buckets, config.heads) * 0.02)

    def parts(self, x: Tensor) -> Parts:
        """Gives U, V, Q, K of tokens (..., D)."""
        width = x.shape[-1] // self.heads
        parts = silu(self.project_in(self.norm_in(x))).view(*x.shape[:-1], 4, self.heads, width)
        gate, value, query, key = parts.unbind(-3)
        return Parts(gate=gate, value=value, query=query, key=key)

    def bias(self, apart: Tensor, delta_ms: Tensor) -> Tensor:
        """Gives rab of pairs of tokens, (..., H), from positions apart and time apart."""
        ranks = gather(full_precision(self.rank_bias), apart.clamp(0, len(self.rank_bias) - 1))
        return ranks + gather(full_precision(self.interval_bias), interval_buckets(self._interval, delta_ms))

    def weight(self, logit: Tensor) -> Tensor:
        """Gives A from the logits with their bias, full precision."""
        return silu(logit) / self._scale_length

    def finish(self, x: Tensor, gate: Tensor, attended: Tensor) -> Tensor:
        """Gives the layer's output of tokens (..., D) from their gates and A V (..., H, E)."""
        out: Tensor = x + self.project_out(self.norm_out(attended.flatten(-2)) * gate.flatten(-2))
        return out


def interval_buckets(interval: IntervalPosition, delta_ms: Tensor) -> Tensor:
    """Gives the bucket of a time between two rows: equal buckets on a log scale from a minute to the span. int64.

    Whole milliseconds are compared with whole bounds, so no rounding moves a row between buckets.
    """
    span = interval.span_days * DAY_MS / MINUTE_MS
    steps = torch.arange(1, interval.buckets, dtype=torch.float64) / interval.buckets
    bounds = (((1 + span) ** steps - 1) * MINUTE_MS).ceil().to(torch.int64)
    return torch.bucketize(delta_ms, bounds.to(delta_ms.device), right=True)


class HSTU(nn.Module):
    """Layers of HSTU over every list, and each candidate read behind its own.

    Positional encodings of the input are not used: the bias is relative.

    Args:
        dim: Width.
        config: Options.
        rank: How positions apart are bucketed.
        interval: How time apart is bucketed.
    """

    def __init__(
        self, dim: int, config: HSTUConfig, rank: RankPosition = RANK, interval: IntervalPosition = INTERVAL
    ) -> None:
        super().__init__()
        if dim % config.heads:
            raise ValueError(f"heads: {config.heads} does not divide the width {dim}")
        self.out_dim = dim
        self.layers = nn.ModuleList(_Layer(dim, config, rank, interval) for _ in range(config.layers))
        self.norm = LayerNorm(dim)

    def forward(self, x: ListInput) -> ListInterest:
        """Attends; see the module docstring."""
        layout, found, weights = Layout.of(x.offsets, x.list_B), [], []
        for bucket in layout.buckets:
            candidate_LCD, weight = self._candidates(x, bucket, self.rows(x, bucket))
            found.append(candidate_LCD)
            weights.append(weight.detach())
        weight_M, rest_B = weights_of(weights, layout)
        representation_BD = self.norm(layout.queries(found))
        return ListInterest(representation_BD=representation_BD, weight_M=weight_M, rest_B=rest_B)

    def reference(self, x: ListInput) -> ListInterest:
        """The formulas of the module docstring over list and candidate as one sequence, candidate by candidate."""
        rows, intervals = lists_of(x.values_ND, x.offsets), lists_of(x.interval_ms_N, x.offsets)
        outputs, weights, rest = [], [], []
        for candidate_D, number in zip(x.candidate_BD, x.list_B.tolist(), strict=True):
            x_TD = torch.cat([rows[number], candidate_D[None]])
            time_T = -torch.cat([intervals[number], intervals[number].new_zeros(1)])
            place_T, weight_TT = torch.arange(len(x_TD)), x_TD.new_zeros(0)
            for layer in typed(self.layers, _Layer):
                parts = layer.parts(x_TD)
                rab_TTH = layer.bias(place_T[:, None] - place_T, time_T[:, None] - time_T)
                attended, weight_TT = [], x_TD.new_zeros(len(x_TD), len(x_TD))
                for head in range(layer.heads):
                    logit_TT = contract("qe,te->qt", parts.query[:, head], parts.key[:, head])
                    head_TT = layer.weight(logit_TT + rab_TTH[:, :, head]).tril()
                    attended.append(head_TT.to(x_TD.dtype) @ parts.value[:, head])
                    weight_TT = weight_TT + head_TT / layer.heads
                x_TD = layer.finish(x_TD, parts.gate, torch.stack(attended, dim=1))
            outputs.append(self.norm(x_TD[-1]))
            weights.append(weight_TT[-1, :-1].detach())
            rest.append(weight_TT[-1, -1].detach())
        return ListInterest(
            representation_BD=torch.stack(outputs), weight_M=torch.cat(weights), rest_B=torch.stack(rest)
        )

    def rows(self, x: ListInput, bucket: Bucket) -> list[Parts]:
        """Runs lists of one size and gives what each layer's candidates read of them, (L, T, H, E)."""
        row_LTD, interval_LT = bucket.rows.of(x.values_ND), bucket.rows.of(x.interval_ms_N)
        layers, parts = typed(self.layers, _Layer), []
        for layer in layers:
            parts.append(layer.parts(row_LTD))
            if layer is not layers[-1]:  # what the rows become in the last layer is never read
                row_LTD = layer.finish(row_LTD, parts[-1].gate, _causal(layer, parts[-1], interval_LT))
        return parts

    def _candidates(self, x: ListInput, bucket: Bucket, rows: list[Parts]) -> tuple[Tensor, Tensor]:
        """Runs the candidates of lists of one size; (L, C, D) and the last layer's weights (L, C, T + 1)."""
        candidate_LCD = bucket.queries.of(x.candidate_BD)
        interval_LT = bucket.rows.of(x.interval_ms_N)
        place_T = torch.arange(bucket.rows.width, device=x.offsets.device)
        apart_LT = bucket.rows.valid_LT.sum(1, keepdim=True) - place_T
        zero, weight = interval_LT.new_zeros(1), candidate_LCD.new_zeros(0)
        for layer, parts in zip(typed(self.layers, _Layer), rows, strict=True):
            keys = Keys(key_NHE=parts.key, value_NHE=parts.value)
            own = layer.parts(candidate_LCD)
            rab_LH1T = layer.bias(apart_LT, interval_LT).mT[:, :, None]
            seen_L11T = bucket.rows.valid_LT[:, None, None]
            attended_LCHE, weight_LHCT = _attend(layer, own.query, keys, rab_LH1T, seen_L11T)
            itself_LCH = layer.weight(contract("lche,lche->lch", own.query, own.key) + layer.bias(zero, zero))
            attended_LCHE = attended_LCHE + itself_LCH.to(candidate_LCD.dtype)[..., None] * own.value
            candidate_LCD = layer.finish(candidate_LCD, own.gate, attended_LCHE)
            weight = torch.cat([weight_LHCT.mean(1), itself_LCH.mean(2, keepdim=True)], dim=2)
        return candidate_LCD, weight


def _causal(layer: _Layer, parts: Parts, interval_LT: Tensor) -> Tensor:
    """Gives A V of rows that see themselves and those before, (L, T, H, E), a few rows at a time."""
    place_T, found = torch.arange(interval_LT.shape[1], device=interval_LT.device), [parts.value[:, :0]]
    for start in range(0, len(place_T), ROWS_AT_ONCE):
        end = min(start + ROWS_AT_ONCE, len(place_T))
        apart_QT = place_T[start:end, None] - place_T[:end]
        rab_LQTH = layer.bias(apart_QT, interval_LT[:, None, :end] - interval_LT[:, start:end, None])
        keys = Keys(key_NHE=parts.key[:, :end], value_NHE=parts.value[:, :end])
        found.append(_attend(layer, parts.query[:, start:end], keys, rab_LQTH.permute(0, 3, 1, 2), apart_QT >= 0)[0])
    return torch.cat(found, dim=1)


def _attend(layer: _Layer, query_LQHE: Tensor, keys: Keys, rab: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Gives A V (L, Q, H, E) and A (L, H, Q, T); `rab` and `visible` broadcast to (L, H, Q, T)."""
    logit_LHQT = contract("lqhe,lthe->lhqt", query_LQHE, keys.key_NHE) + rab
    weight_LHQT = layer.weight(logit_LHQT).where(visible, 0.0)
    return torch.einsum("lhqt,lthe->lqhe", weight_LHQT.to(query_LQHE.dtype), keys.value_NHE), weight_LHQT


@register
class HSTUConfig(ListConfig):
    """Options of the block in a preset. It has its own relative positions, the same for all targets."""

    kind: Literal["hstu"]
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=1, le=16)
    scale_length: int = Field(ge=1)
    """The n of the formula: about the number of rows of a list."""

    def build(self, shape: Shape) -> ListBlock:
        """See `BlockConfig`."""
        return ListBlock(self, shape, lambda positions: HSTU(shape.representation_dim, self), positional=False)
