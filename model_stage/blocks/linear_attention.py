"""Linear attention: a list costs its length, not its square.

    phi(x) = elu(x) + 1
    out_i  = phi(q_i) S / (phi(q_i) z + eps)        S = sum_j phi(k_j) v_j',  z = sum_j phi(k_j)
           = sum_j w_ij v_j                         w_ij = phi(q_i) phi(k_j) / (sum_j phi(q_i) phi(k_j) + eps)

The second line is the quadratic form, which the reference computes. Source: Linear Transformers, arXiv 2006.16236,
section 3.2, eps as in its code. Our choice: rows of a list see the whole list, for all of it lies before the as-of
time; a candidate sees the list and itself and nothing sees it, so S and z are made once per list and a candidate's
representation costs H E F, whatever the length (its weights, for explanation, cost one inner product per row).

Legend: N rows of L lists, T cells per list, C candidates per list, B candidates, D width, H heads, E = F = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import ListBlock, ListConfig
from model_stage.blocks.pairs import full_precision, typed
from model_stage.blocks.position import PositionTables
from model_stage.blocks.ragged import Layout
from model_stage.blocks.registry import register
from model_stage.blocks.sequence import (
    LayerNorm,
    ListInput,
    ListInterest,
    TransformerLayer,
    contract,
    lists_of,
    weights_of,
)

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Positions, Shape

EPS = 1e-6


class LinearAttention(nn.Module):
    """Layers of linear attention over every list, and each candidate read behind its own.

    Args:
        positions: Positional encodings of the rows.
        dim: Width.
        heads: Heads of every layer.
        layers: At least 1.
    """

    def __init__(self, positions: Positions, dim: int, heads: int, layers: int) -> None:
        super().__init__()
        self.out_dim = dim
        self.positions = PositionTables(positions, dim)
        self.layers = nn.ModuleList(TransformerLayer(dim, heads) for _ in range(layers))
        self.norm = LayerNorm(dim)

    def forward(self, x: ListInput) -> ListInterest:
        """Attends; see the module docstring. The weights are the last layer's, w_ij of the candidates alone."""
        row_ND = x.values_ND + self.positions.encode(x.buckets)
        candidate_BD = x.candidate_BD + self.positions.candidate_row
        layout, found, weights = Layout.of(x.offsets, x.list_B), [], []
        for bucket in layout.buckets:
            row_LTD, candidate_LCD = bucket.rows.of(row_ND), bucket.queries.of(candidate_BD)
            candidate_LCD, weight = self._candidates(candidate_LCD, self._states(row_LTD, bucket.rows.valid_LT))
            found.append(candidate_LCD)
            weights.append(weight)
        weight_M, rest_B = weights_of(weights, layout)
        representation_BD = self.norm(layout.queries(found))
        return ListInterest(representation_BD=representation_BD, weight_M=weight_M, rest_B=rest_B)

    def reference(self, x: ListInput) -> ListInterest:
        """The quadratic form over list and candidate as one sequence, candidate by candidate."""
        rows = lists_of(x.values_ND + self.positions.encode(x.buckets), x.offsets)
        outputs, weights, rest = [], [], []
        for candidate_D, number in zip(x.candidate_BD + self.positions.candidate_row, x.list_B.tolist(), strict=True):
            x_TD = torch.cat([rows[number], candidate_D[None]])
            visible_TT = torch.ones(len(x_TD), len(x_TD), dtype=torch.bool)
            visible_TT[:-1, -1] = False
            weight_TT = x_TD.new_zeros(0)
            for layer in typed(self.layers, TransformerLayer):
                keys, query_TF, attended, weight_TT = layer.keys(x_TD), feature(layer.query(x_TD)), [], torch.zeros(())
                for head in range(layer.heads):
                    part_TT = contract("qe,te->qt", query_TF[:, head], feature(keys.key_NHE[:, head]))
                    part_TT = part_TT.where(visible_TT, 0.0)
                    part_TT = part_TT / (part_TT.sum(1, keepdim=True) + EPS)
                    attended.append(contract("qt,te->qe", part_TT, keys.value_NHE[:, head]))
                    weight_TT = weight_TT + part_TT.detach() / layer.heads
                x_TD = layer.finish(x_TD, torch.stack(attended, dim=1).to(x_TD.dtype))
            outputs.append(self.norm(x_TD[-1]))
            weights.append(weight_TT[-1, :-1])
            rest.append(weight_TT[-1, -1])
        return ListInterest(
            representation_BD=torch.stack(outputs), weight_M=torch.cat(weights), rest_B=torch.stack(rest)
        )

    def _states(self, row_LTD: Tensor, valid_LT: Tensor) -> list[_State]:
        """Runs lists of one size and gives what each layer's candidates read of them."""
        layers, states = typed(self.layers, TransformerLayer), []
        for layer in layers:
            query_LTHE, keys = layer.project(row_LTD)
            key_LTHE = feature(keys.key_NHE).where(valid_LT[:, :, None, None], 0.0)
            state_LHEF = contract("lthe,lthf->lhef", key_LTHE, keys.value_NHE)
            states.append(_State(key_LTHE=key_LTHE, state_LHEF=state_LHEF, mass_LHE=key_LTHE.sum(1)))
            if layer is not layers[-1]:  # what the rows become in the last layer is never read
                out_LTHF, total_LTH = states[-1].read(feature(query_LTHE))
                row_LTD = layer.finish(row_LTD, (out_LTHF / total_LTH[..., None]).to(row_LTD.dtype))
        return states

    def _candidates(self, candidate_LCD: Tensor, states: list[_State]) -> tuple[Tensor, Tensor]:
        """Runs the candidates of lists of one size; (L, C, D) and the last layer's weights (L, C, T + 1)."""
        weight = candidate_LCD.new_zeros(0)
        for layer, state in zip(typed(self.layers, TransformerLayer), states, strict=True):
            query_LCHE, own = layer.project(candidate_LCD)
            query_LCHE = feature(query_LCHE)
            out_LCHF, total_LCH = state.read(query_LCHE)
            itself_LCH = (query_LCHE * feature(own.key_NHE)).sum(-1)
            total_LCH = total_LCH + itself_LCH
            out_LCHF = (out_LCHF + itself_LCH[..., None] * full_precision(own.value_NHE)) / total_LCH[..., None]
            candidate_LCD = layer.finish(candidate_LCD, out_LCHF.to(candidate_LCD.dtype))
            if state is states[-1]:
                with torch.no_grad():
                    scaled_LCHE = query_LCHE / total_LCH[..., None] / layer.heads
                    weight_LCT = contract("lche,lthe->lct", scaled_LCHE, state.key_LTHE)
                    weight = torch.cat([weight_LCT, (itself_LCH / total_LCH).mean(2, keepdim=True)], dim=2)
        return candidate_LCD, weight


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What a layer keeps of lists of one size, full precision."""

    key_LTHE: Tensor
    """phi(k), zero where a cell holds no row."""
    state_LHEF: Tensor
    mass_LHE: Tensor

    def read(self, query_LQHE: Tensor) -> tuple[Tensor, Tensor]:
        """Gives phi(q) S, (L, Q, H, F), and phi(q) z + eps, (L, Q, H)."""
        out_LQHF = contract("lqhe,lhef->lqhf", query_LQHE, self.state_LHEF)
        return out_LQHF, contract("lqhe,lhe->lqh", query_LQHE, self.mass_LHE) + EPS


def feature(x: Tensor) -> Tensor:
    """Gives phi(x), full precision, not negative."""
    return nn.functional.elu(full_precision(x)) + 1.0


@register
class LinearConfig(ListConfig):
    """Options of the block in a preset."""

    kind: Literal["linear"]
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=1, le=16)

    def build(self, shape: Shape) -> ListBlock:
        """See `BlockConfig`."""
        dims = shape.representation_dim, self.heads, self.layers
        return ListBlock(self, shape, lambda positions: LinearAttention(positions, *dims), positional=True)
