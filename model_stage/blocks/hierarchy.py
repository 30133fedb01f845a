"""Items to sessions to user: a long list as few summaries, each of what was done in one go.

    session   rows of a list, oldest first, cut where the time between two rows exceeds the gap
    summary   s = sum_i softmax_i(<w, tanh(W x_i)>) x_i        within a session, the same for every candidate
    sessions  causal layers over the summaries of a list
    user      the candidate, as one more token behind the sessions, attends over them and itself

Source: the three levels are PAPERS' "items -> session summaries -> user summary"; the pooling is that of hierarchical
attention networks (NAACL 2016, section 2.2); cutting by a gap of idle time as in DSIN, arXiv 1905.06482. How they are
put together is our choice. A row's weight for a candidate is its session's weight times its own within the session.

Legend: N rows of L lists, S sessions of all lists, B candidates, M (candidate, row) pairs, D width.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import ListBlock, ListConfig
from model_stage.blocks.pairs import full_precision, list_pairs
from model_stage.blocks.position import PositionTables
from model_stage.blocks.ragged import Layout, lengths_to_offsets, offsets_to_segments, segment_softmax, segment_sum
from model_stage.blocks.registry import register
from model_stage.blocks.sequence import (
    LayerNorm,
    ListInput,
    ListInterest,
    TransformerLayer,
    causal_layers,
    causal_reference,
    lists_of,
    read_lists,
    weights_of,
)

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Positions, Shape

MINUTE_MS = 60_000


def sessions_of(interval_ms_N: Tensor, offsets: Tensor, gap_minutes: float) -> tuple[Tensor, Tensor]:
    """Gives the session of each row, numbered over all lists, (N,), and the sessions' offsets by list, (L + 1,). int64.

    minutes before now: [300 290 | 20 5 1] [9]     gap 30 ->  sessions 0 0 1 1 1 2    offsets 0 2 3
    """
    list_N = offsets_to_segments(offsets)
    starts_N = torch.ones_like(list_N, dtype=torch.bool)
    idle_ms = interval_ms_N[:-1] - interval_ms_N[1:]
    starts_N[1:] = (idle_ms > gap_minutes * MINUTE_MS) | (list_N[1:] != list_N[:-1])
    count_L = torch.bincount(list_N[starts_N], minlength=len(offsets) - 1)
    return starts_N.cumsum(0) - 1, lengths_to_offsets(count_L)


class Hierarchy(nn.Module):
    """See the module docstring."""

    def __init__(self, positions: Positions, dim: int, config: HierarchyConfig) -> None:
        super().__init__()
        self._gap_minutes = config.gap_minutes
        self.out_dim = dim
        self.positions = PositionTables(positions, dim)
        self.pool = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False))
        self.layers = nn.ModuleList(TransformerLayer(dim, config.heads) for _ in range(config.layers))
        self.reader = TransformerLayer(dim, config.heads)
        self.norm = LayerNorm(dim)

    def forward(self, x: ListInput) -> ListInterest:
        """Attends; see the module docstring."""
        row_ND = x.values_ND + self.positions.encode(x.buckets)
        session_N, session_offsets = sessions_of(x.interval_ms_N, x.offsets, self._gap_minutes)
        num_sessions = int(session_offsets[-1])
        item_N, _ = segment_softmax(full_precision(self.pool(row_ND)).squeeze(1), session_N, num_sessions)
        summary_SD = segment_sum(item_N[:, None] * full_precision(row_ND), session_N, num_sessions)
        summary_SD = causal_layers(self.layers, summary_SD.to(row_ND.dtype), Layout.of_lists(session_offsets))
        candidate_BD = x.candidate_BD + self.positions.candidate_row
        query_B1HE, own = self.reader.project(candidate_BD[:, None])
        layout = Layout.of(session_offsets, x.list_B)
        attended_BHE, weights = read_lists(query_B1HE.squeeze(1), self.reader.keys(summary_SD), own, layout)
        representation_BD = self.norm(self.reader.finish(candidate_BD, attended_BHE))
        session_weight, rest_B = weights_of(weights, layout)
        row_M, candidate_M = list_pairs(x.offsets, x.list_B)
        count_B = (session_offsets[1:] - session_offsets[:-1])[x.list_B]
        shift_B = lengths_to_offsets(count_B)[:-1] - session_offsets[x.list_B]
        weight_M = session_weight[session_N[row_M] + shift_B[candidate_M]] * item_N.detach()[row_M]
        return ListInterest(representation_BD=representation_BD, weight_M=weight_M, rest_B=rest_B)

    def reference(self, x: ListInput) -> ListInterest:
        """The module docstring list by list, session by session; same answer as `forward`."""
        rows, intervals = lists_of(x.values_ND + self.positions.encode(x.buckets), x.offsets), x.interval_ms_N.tolist()
        summaries, items = [], []
        for number, row_TD in enumerate(rows):
            first = int(x.offsets[number])
            bounds = [
                at
                for at in range(len(row_TD) + 1)
                if at in (0, len(row_TD))
                or intervals[first + at - 1] - intervals[first + at] > self._gap_minutes * MINUTE_MS
            ]
            sessions = [row_TD[start:end] for start, end in itertools.pairwise(bounds)]
            item = [torch.softmax(full_precision(self.pool(session_KD)).squeeze(1), dim=0) for session_KD in sessions]
            pooled = [(w_K[:, None] * full_precision(s_KD)).sum(0) for w_K, s_KD in zip(item, sessions, strict=True)]
            summary_SD = torch.stack(pooled) if pooled else row_TD
            summaries.append(causal_reference(self.layers, summary_SD.to(row_TD.dtype)))
            items.append([w_K.detach() for w_K in item])
        outputs, weights, rest = [], [], []
        for candidate_D, number in zip(x.candidate_BD + self.positions.candidate_row, x.list_B.tolist(), strict=True):
            context_TD = torch.cat([summaries[number], candidate_D[None]])
            see_all = torch.ones(1, len(context_TD), dtype=torch.bool)
            out_QD, weight_QT = self.reader.reference(candidate_D[None], context_TD, see_all)
            outputs.append(self.norm(out_QD[0]))
            *session_weights, own_weight = weight_QT[0].detach()
            weights += [weight * w_K for weight, w_K in zip(session_weights, items[number], strict=True)]
            rest.append(own_weight)
        weight_M = torch.cat(weights) if weights else x.values_ND.new_zeros(0)
        return ListInterest(representation_BD=torch.stack(outputs), weight_M=weight_M, rest_B=torch.stack(rest))


@register
class HierarchyConfig(ListConfig):
    """Options of the block in a preset."""

    kind: Literal["hierarchy"]
    gap_minutes: float = Field(ge=0.0)
    """Idle time that ends a session."""
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=0, le=16)
    """Layers over the sessions."""

    def build(self, shape: Shape) -> ListBlock:
        """See `BlockConfig`."""
        dim = shape.representation_dim
        return ListBlock(self, shape, lambda positions: Hierarchy(positions, dim, self), positional=True)
