"""Memory bank: a fixed number of learned slots, written by the history and read by the candidate.

    e~_i = e_i + p_f(i)          v~ = v + p_0
    a_is = softmax over the list's rows i of <slot_s, W_k e~_i> / sqrt(d)          write
    m_s  = sum_i a_is W_v e~_i
    b_s  = softmax over slots s of <W_q v~, m_s> / sqrt(d)                          read
    u    = sum_s b_s m_s

A candidate costs S slots whatever the length of the list, and the slots of a user can be kept between requests.
Source: our choice; the idea (learned slots, written by history, read by the candidate) is in PAPERS without a formula.
One table set. A behavior's weight for a candidate is sum_s a_is b_s; it sums to 1 over the list.

Legend: N rows of L lists, B candidates, D width, S slots, M (candidate, row) pairs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import ListBlock, ListConfig
from model_stage.blocks.pairs import full_linear
from model_stage.blocks.position import PositionTables
from model_stage.blocks.ragged import Layout
from model_stage.blocks.registry import register
from model_stage.blocks.sequence import ListInput, ListInterest, contract

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Positions, Shape


class MemoryBank(nn.Module):
    """Writes lists into slots and reads the slots; see the module docstring."""

    def __init__(self, positions: Positions, dim: int, num_slots: int) -> None:
        super().__init__()
        self.positions = PositionTables(positions, dim)
        self.slots_SD = nn.Parameter(torch.randn(num_slots, dim))
        self.key, self.value, self.query = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.out_dim = dim

    def forward(self, x: ListInput) -> ListInterest:
        """Gives u of each candidate, zeros where its list is empty, in the dtype of the input."""
        row_ND, scale = x.values_ND + self.positions.encode(x.buckets), math.sqrt(self.out_dim)
        score_NS, value_ND = full_linear(self.key(row_ND), self.slots_SD) / scale, self.value(row_ND)
        query_BD = self.query(x.candidate_BD + self.positions.candidate_row)
        layout, found, weights = Layout.of(x.offsets, x.list_B), [], []
        for bucket in layout.buckets:
            write_LST = torch.softmax(bucket.rows.hide(bucket.rows.of(score_NS).mT), dim=2)
            memory_LSD = contract("lst,ltd->lsd", write_LST, bucket.rows.of(value_ND))
            read_LCS = torch.softmax(contract("lcd,lsd->lcs", bucket.queries.of(query_BD), memory_LSD) / scale, dim=2)
            found.append(contract("lcs,lsd->lcd", read_LCS, memory_LSD))
            weights.append(contract("lcs,lst->lct", read_LCS.detach(), write_LST.detach()))
        length_B = x.offsets.diff().index_select(0, x.list_B)
        return ListInterest(
            representation_BD=layout.queries(found).to(x.candidate_BD.dtype),
            weight_M=layout.pairs(weights),
            rest_B=(length_B == 0).to(torch.float32),
        )

    def reference(self, x: ListInput) -> Tensor:
        """The formulas, candidate by candidate; same answer as `forward`."""
        row_ND = x.values_ND + self.positions.encode(x.buckets)
        outputs = []
        for at, candidate_D in zip(x.list_B.tolist(), x.candidate_BD, strict=True):
            row_KD = row_ND[int(x.offsets[at]) : int(x.offsets[at + 1])]
            write_KS = torch.softmax(self.key(row_KD) @ self.slots_SD.T / math.sqrt(self.out_dim), dim=0)
            memory_SD = write_KS.T @ self.value(row_KD)
            query_D = self.query(candidate_D + self.positions.candidate_row)
            read_S = torch.softmax(memory_SD @ query_D / math.sqrt(self.out_dim), dim=0)
            outputs.append(read_S @ memory_SD)
        return torch.stack(outputs)


@register
class MemoryConfig(ListConfig):
    """Options of the block in a preset."""

    kind: Literal["memory"]
    slots: int = Field(ge=1, le=1024)

    def build(self, shape: Shape) -> ListBlock:
        """See `BlockConfig`."""
        dims = shape.representation_dim, self.slots
        return ListBlock(self, shape, lambda positions: MemoryBank(positions, *dims), positional=True)
