"""Sparse attention: a local window and a few global tokens instead of all pairs.

    row i       sees rows i - w < j <= i of its list, and the G global tokens of its list
    global      sees all rows of its list, and all its global tokens
    candidate   a global token of its own: sees all rows, the global tokens and itself; nothing sees it

Cost N (2 w + G) for the rows in place of sum of squared lengths. Source of the pattern: Longformer, arXiv 2004.05150,
section 3.1. Our choice: the window looks back only, the global tokens are learned vectors, softmax layers as in
`sequence`. Rows learn of later rows through the global tokens, so the block is not causal.

The fast path cuts every list into chunks of w rows; a chunk sees itself and the chunk before, within the window:

    w = 3     keys of chunk 2:   [ . 1 2 | 3 . . ]   row 3 sees 1 2 3
              (rows 3 4 5)       [ . . 2 | 3 4 . ]   row 4 sees 2 3 4
                                 [ . . . | 3 4 5 ]   row 5 sees 3 4 5

Legend: N rows of L lists, K chunks of all lists, W = w rows of a chunk, G global tokens of a list (or, flat, of all
lists), B candidates, D width, H heads, E = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import ListBlock, ListConfig
from model_stage.blocks.pairs import typed
from model_stage.blocks.position import PositionTables
from model_stage.blocks.ragged import (
    Cells,
    Layout,
    cells,
    gather,
    lengths_to_offsets,
    offsets_to_segments,
    span_rows,
)
from model_stage.blocks.registry import register
from model_stage.blocks.sequence import (
    Keys,
    LayerNorm,
    ListInput,
    ListInterest,
    TransformerLayer,
    lists_of,
    read_lists,
    scaled_dot_product,
    weights_of,
)

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Positions, Shape


class SparseAttention(nn.Module):
    """Layers of windowed attention with global tokens over every list, and each candidate read behind its own."""

    def __init__(self, positions: Positions, dim: int, config: SparseConfig) -> None:
        super().__init__()
        self.config = config
        self.out_dim = dim
        self.positions = PositionTables(positions, dim)
        self.global_tokens = nn.Parameter(torch.randn(config.global_tokens, dim) * 0.02)
        self.layers = nn.ModuleList(TransformerLayer(dim, config.heads) for _ in range(config.layers))
        self.norm = LayerNorm(dim)

    def forward(self, x: ListInput) -> ListInterest:
        """Attends; see the module docstring. The weights are the last layer's."""
        num_lists, size = len(x.offsets) - 1, self.config.global_tokens
        row_ND = x.values_ND + self.positions.encode(x.buckets)
        candidate_BD = x.candidate_BD + self.positions.candidate_row
        global_LGD = self.global_tokens.repeat(num_lists, 1, 1)
        list_of_G = torch.arange(num_lists, device=x.offsets.device).repeat_interleave(size)
        global_layout, layout = Layout.of(x.offsets, list_of_G), Layout.of(x.offsets, x.list_B)
        chunks = _Chunks.of(x.offsets, self.config.window)
        layers = typed(self.layers, TransformerLayer)
        weights: list[Tensor] = []
        for layer in layers:
            query_NHE, rows = layer.project(row_ND)
            query_LGHE, tokens = layer.project(global_LGD)
            query_B1HE, own = layer.project(candidate_BD[:, None])
            attended_BHE, weights = read_lists(query_B1HE.squeeze(1), rows, own, layout, tokens)
            candidate_BD = layer.finish(candidate_BD, attended_BHE)
            if layer is not layers[-1]:  # only the candidates are read after the last layer
                attended_GHE, _ = read_lists(query_LGHE.flatten(0, 1), rows, None, global_layout, tokens)
                row_ND = layer.finish(row_ND, chunks.attend(query_NHE, rows, tokens))
                global_LGD = layer.finish(global_LGD, attended_GHE.view(num_lists, size, *attended_GHE.shape[1:]))
        weight_M, rest_B = weights_of(weights, layout)
        return ListInterest(representation_BD=self.norm(candidate_BD), weight_M=weight_M, rest_B=rest_B)

    def reference(self, x: ListInput) -> ListInterest:
        """Who sees whom written out over [global tokens; rows; candidate], candidate by candidate."""
        rows = lists_of(x.values_ND + self.positions.encode(x.buckets), x.offsets)
        outputs, weights, rest = [], [], []
        for candidate_D, number in zip(x.candidate_BD + self.positions.candidate_row, x.list_B.tolist(), strict=True):
            x_TD = torch.cat([self.global_tokens, rows[number], candidate_D[None]])
            first, last = self.config.global_tokens, len(x_TD) - 1
            visible_TT = torch.zeros(len(x_TD), len(x_TD), dtype=torch.bool)
            visible_TT[:, :first] = True
            visible_TT[:first, :last] = True
            visible_TT[last] = True
            for row in range(first, last):
                visible_TT[row, max(first, row - self.config.window + 1) : row + 1] = True
            weight_TT = x_TD.new_zeros(0)
            for layer in typed(self.layers, TransformerLayer):
                x_TD, weight_TT = layer.reference(x_TD, x_TD, visible_TT)
            weight_T = weight_TT[-1].detach()
            outputs.append(self.norm(x_TD[-1]))
            weights.append(weight_T[first:last])
            rest.append(weight_T[:first].sum() + weight_T[-1])
        return ListInterest(
            representation_BD=torch.stack(outputs), weight_M=torch.cat(weights), rest_B=torch.stack(rest)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunks:
    """The lists cut into chunks of w rows, oldest first; the last chunk of a list may be short."""

    rows: Cells
    list_K: Tensor
    first_K: Tensor
    """Whether a chunk is its list's first, with no chunk before it."""
    cell_N: Tensor
    """Cell of each row, chunk by chunk."""

    @classmethod
    def of(cls, offsets: Tensor, window: int) -> _Chunks:
        """Cuts the lists."""
        length_L = offsets[1:] - offsets[:-1]
        count_L = (length_L + window - 1) // window
        chunk_offsets = lengths_to_offsets(count_L)
        list_K = offsets_to_segments(chunk_offsets)
        place_K = torch.arange(len(list_K), device=offsets.device) - chunk_offsets[list_K]
        length_K = (length_L[list_K] - place_K * window).clamp(max=window)
        rows = cells(offsets[list_K] + place_K * window, length_K, window)
        cell_N = span_rows(chunk_offsets[:-1] * window, offsets)
        return cls(rows=rows, list_K=list_K, first_K=place_K == 0, cell_N=cell_N)

    def attend(self, query_NHE: Tensor, rows: Keys, tokens: Keys) -> Tensor:
        """Every row attends over its window and its list's global tokens. (N, H, E)."""
        if not len(self.cell_N):
            return query_NHE
        own = rows.take(self.rows.row_LT)
        before_K = (torch.arange(len(self.list_K), device=self.list_K.device) - 1).clamp(min=0)
        keys = tokens.take(self.list_K).join(own.take(before_K)).join(own)
        window_WW = torch.ones(self.rows.width, self.rows.width, dtype=torch.bool, device=self.list_K.device)
        before_KWW = window_WW.triu(1) & ~self.first_K[:, None, None]
        size = tokens.key_NHE.shape[1]
        both_KWW = torch.cat([before_KWW, window_WW.tril().expand_as(before_KWW)], dim=2)
        visible = nn.functional.pad(both_KWW, (size, 0), value=True)
        out = scaled_dot_product(gather(query_NHE, self.rows.row_LT), keys, visible)
        return out.flatten(0, 1).index_select(0, self.cell_N)


@register
class SparseConfig(ListConfig):
    """Options of the block in a preset."""

    kind: Literal["sparse"]
    window: int = Field(ge=1)
    """w: rows that a row sees, itself among them."""
    global_tokens: int = Field(ge=1, le=64)
    """G, per list."""
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=1, le=16)

    def build(self, shape: Shape) -> ListBlock:
        """See `BlockConfig`."""
        dim = shape.representation_dim
        return ListBlock(self, shape, lambda positions: SparseAttention(positions, dim, self), positional=True)
