"""Temporal Interest Network over decoupled tables, one attention per positional table set.

    e~_i = e_i + p_f(i)          v~ = v + p_f(0)
    a_i  = softmax_i( <e~_i, v~> / sqrt(d) )        on the attention tables
    u    = sum_i a_i (e~_i * v~)                    on the representation tables
    mass = log(1 + sum_i exp( <e~_i, v~> / sqrt(d) ))

Source: TIN, arXiv 2308.08487 (formulas and code); the two table sets are DARE's, arXiv 2410.02604. The mass is our
choice: a softmax says how attention is shared and not how much there was to attend to. It is a count of the behaviors,
each worth what its item, age and match level make it worth to this target.

Legend: M pairs, U behaviors of the union, B candidates, W attentions (table sets), A attention width, R representation
width, D a width, N buckets of all encodings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from model_stage.blocks.interest import JointPairBlock
from model_stage.blocks.pairs import Attended, AttentionInput, full_precision
from model_stage.blocks.position import PositionTables
from model_stage.blocks.registry import BlockConfig, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.blocks.block_input import Positions, Shape


class TIN(nn.Module):
    """One temporal-interest attention with positional tables of its own.

    `forward` and `reference` compute the same function; the fast path forms no e~_i: see `pair_attention`.
    """

    def __init__(self, positions: Positions, attention_dim: int, representation_dim: int) -> None:
        super().__init__()
        self.attention_positions = PositionTables(positions, attention_dim)
        self.representation_positions = PositionTables(positions, representation_dim)
        self.out_dim = representation_dim

    def forward(self, x: AttentionInput) -> Attended:
        """Attends; see the module docstring."""
        (found,) = self.together([self], x)
        return found

    @staticmethod
    def together(blocks: Sequence[TIN], x: AttentionInput) -> list[Attended]:
        """Runs several over the same pairs, in one pass."""
        attention = StackedTables.of([block.attention_positions for block in blocks], x)
        representation = StackedTables.of([block.representation_positions for block in blocks], x)
        question = Question(
            query_WBA=x.attention_BA + attention.candidate_W1D,
            value_WBR=x.representation_BR + representation.candidate_W1D,
        )
        found = temporal_interest(question, x.attention_UA, x.representation_UR, (attention, representation), x)
        return [attended([found], at, x) for at in range(len(blocks))]

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""
        query_BA = x.attention_BA + self.attention_positions.candidate_row
        value_BR = x.representation_BR + self.representation_positions.candidate_row
        key_MA = x.attention_UA[x.behavior_M] + self.attention_positions.encode(
            x.buckets_of(self.attention_positions.positions)
        )
        item_MR = x.representation_UR[x.behavior_M] + self.representation_positions.encode(
            x.buckets_of(self.attention_positions.positions)
        )
        return x.by_candidate(
            lambda at, mine: temporal_reference(query_BA[at], value_BR[at], key_MA[mine], item_MR[mine])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedTables:
    """The positional tables of W attentions, the rows of all encodings of the pairs below one another."""

    rows_WND: Tensor
    """p_f; zeros for an encoding that an attention does not have."""
    candidate_W1D: Tensor
    """p_f(0)."""

    @staticmethod
    def of(tables: Sequence[PositionTables], x: AttentionInput) -> StackedTables:
        """Stacks the tables of some attentions over the pairs of `x`; float32 or better."""
        return StackedTables(
            rows_WND=torch.stack([x.rows_of(each.positions, [*each.rows], len(each.candidate_row)) for each in tables]),
            candidate_W1D=full_precision(torch.stack([each.candidate_row for each in tables]))[:, None],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What W attentions ask for their candidates."""

    query_WBA: Tensor
    """v~ of the attention."""
    value_WBR: Tensor
    """v~ of the representation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What W attentions, one for each table set, found."""

    found_WBR: Tensor
    """u."""
    mass_WB: Tensor
    weight_WM: Tensor


def temporal_interest(
    question: Question,
    key_UA: Tensor,
    item_UR: Tensor,
    tables: tuple[StackedTables, StackedTables],
    x: AttentionInput,
) -> Layer:
    """Gives W attentions of the module docstring, e~_i never formed; float32 or better.

    Args:
        question: v~ of both table sets.
        key_UA: Attention embeddings of the union, without positions.
        item_UR: Representations of the union, without positions.
        tables: Tables of p_f, of the attention and of the representation.
        x: The pairs and their buckets.
    """
    attention, representation = tables
    query_WBA = full_precision(question.query_WBA) / math.sqrt(question.query_WBA.shape[2])
    with torch.autocast(query_WBA.device.type, enabled=False):
        bias_WBN = torch.bmm(query_WBA, attention.rows_WND.transpose(1, 2))
        pooled_WBR, share_WBN, mass_WB, weight_WM = x.attend(query_WBA, key_UA[:, None], bias_WBN, item_UR[:, None])
        pooled_WBR = torch.baddbmm(pooled_WBR, share_WBN, representation.rows_WND)
    return Layer(found_WBR=pooled_WBR * question.value_WBR, mass_WB=mass_WB, weight_WM=weight_WM)


def attended(layers: Sequence[Layer], table_set: int, x: AttentionInput) -> Attended:
    """Gives what one table set found in one layer or subset after the other, as one block."""
    return Attended(
        representation_BR=torch.cat([layer.found_WBR[table_set] for layer in layers], dim=1).to(
            x.representation_BR.dtype
        ),
        mass_BW=torch.stack([layer.mass_WB[table_set] for layer in layers], dim=1),
        weight_WM=torch.stack([layer.weight_WM[table_set] for layer in layers]),
    )


def temporal_reference(
    query_A: Tensor, value_R: Tensor, key_KA: Tensor, item_KR: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gives u, weights and scores of one candidate over its rows e~_i, for `AttentionInput.by_candidate`."""
    score_K1 = (key_KA @ query_A / math.sqrt(len(query_A)))[:, None]
    weight_K1 = torch.softmax(score_K1, dim=0)
    return (weight_K1 * item_KR * value_R).sum(0), weight_K1, score_K1


@register
class TINConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["tin"]
    reads_attention = True

    def build(self, shape: Shape) -> JointPairBlock:
        """See `BlockConfig`."""
        dims = shape.attention_dim, shape.representation_dim
        return JointPairBlock(
            shape, lambda positions: TIN(positions, *dims), positional=True, num_masses=1, reads_attention=True
        )
