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

from model_stage.blocks.interest import ListBlock, ListConfig, nothing_seen
from model_stage.blocks.pairs import full_linear, full_precision, list_pairs, pair_softmax, pooled_rows
from model_stage.blocks.position import PositionTables
from model_stage.blocks.ragged import offsets_to_segments
from model_stage.blocks.registry import register
from model_stage.blocks.sequence import ListInput, ListInterest

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
        memory_LSD, write_NS = self.write(x)
        read_BS = self.read(x, memory_LSD)
        found_BD = (read_BS[:, :, None] * memory_LSD.index_select(0, x.list_B)).sum(1)
        row_M, candidate_M = list_pairs(x.offsets, x.list_B)
        return ListInterest(
            representation_BD=found_BD.to(x.candidate_BD.dtype),
            weight_M=(write_NS.detach()[row_M] * read_BS.detach()[candidate_M]).sum(1),
            rest_B=nothing_seen(candidate_M, len(x.list_B)),
        )

    def write(self, x: ListInput) -> tuple[Tensor, Tensor]:
        """Gives the slots of each list (L, S, D) and how they were written, a (N, S); float32 or better."""
        row_ND = x.values_ND
        for table_ND, bucket_N in zip(self.positions.rows, x.buckets, strict=True):
            row_ND = row_ND + table_ND.index_select(0, bucket_N)
        score_NS = full_linear(self.key(row_ND), self.slots_SD) / math.sqrt(self.out_dim)
        list_N, num_lists = offsets_to_segments(x.offsets), len(x.offsets) - 1
        write_NS, _ = pair_softmax(score_NS, list_N, num_lists)
        return pooled_rows(write_NS, self.value(row_ND)[:, None], list_N, num_lists), write_NS

    def read(self, x: ListInput, memory_LSD: Tensor) -> Tensor:
        """Gives each candidate's attention on the slots of its list, b (B, S); float32 or better."""
        query_BD = full_precision(self.query(x.candidate_BD + self.positions.candidate_row))
        score_BS = (query_BD[:, None] * memory_LSD.index_select(0, x.list_B)).sum(2) / math.sqrt(self.out_dim)
        return torch.softmax(score_BS, dim=1)

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
