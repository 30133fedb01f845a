"""STCA: a candidate asks the whole history, again and again, and each question hears all answers before it.

    q^1     = LN( SwiGLU(v~) )                     q^(l+1) = LN( SwiGLU( [o^1, ..., o^l, v~] ) )
    a^(l,h) = softmax_i( <q^l W_q^h W_k^hT, e~_i> / sqrt(E) )
    o^l     = [ (sum_i a^(l,1)_i e~_i) W_v^1, ..., (sum_i a^(l,H)_i e~_i) W_v^H ] W_o
    u       = SwiGLU( [o^1, ..., o^L, v~] )

Keys and values are never built: their projections are folded onto the question and onto what was found, so that a
behavior costs two inner products per head and layer, and nothing is kept of it but its embedding.

Trained on random suffixes, served on all: in training a history is cut to its newest rows, as many as a draw per
request and step says, from an arcsine distribution, which is U-shaped as in the paper; half of the draws are near
either end.

Source: STCA, arXiv 2511.06077: fusion, folding, suffixes. Our choice: the heads and their width, what the options say,
and time as the positional encodings of the target, v~ = v + p(0), e~_i = e_i + p(i), as in TIN; an empty history
answers zeros.

Legend: N rows of L lists, T rows of one list, Q questions of one list, B candidates, D width, H heads, E width of one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from model_stage.blocks.fusion import FusedQuestion, SwiGLU
from model_stage.blocks.history import Answer, HistoryBlock, asked_lists
from model_stage.blocks.pairs import full_precision, typed
from model_stage.blocks.position import PositionTables
from model_stage.blocks.registry import BlockConfig, register
from model_stage.blocks.sequence import contract, lists_of
from store.retrieval import WHOLE_HISTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_stage.blocks.block_input import BlockInput, Positions, Shape
    from model_stage.blocks.history import HistoryInput
    from model_stage.blocks.interest import Interest
    from model_stage.blocks.sequence import ListInput


class CrossAttention(nn.Module):
    """The projections of one layer."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        into = dim**-0.5
        self.to_query, self.to_key, self.to_value = (
            nn.Parameter(torch.randn(heads, dim, head_dim) * into) for _ in range(3)
        )
        self.to_out = nn.Linear(heads * head_dim, dim, bias=False)

    def folded(self, question_BD: Tensor) -> Tensor:
        """Gives the questions as they meet rows that no key was made of, scaled. (B, H, D)."""
        query_BHE = contract("bd,hde->bhe", question_BD, self.to_query) / math.sqrt(self.to_query.shape[2])
        return contract("bhe,hde->bhd", query_BHE, self.to_key)

    def answer(self, found_BHD: Tensor) -> Tensor:
        """Gives o of the weighted sums of rows. (B, D)."""
        value_BHE = contract("bhd,hde->bhe", found_BHD, self.to_value)
        return contract("bx,dx->bd", value_BHE.flatten(1), self.to_out.weight)

    def reference(self, question_D: Tensor, row_TD: Tensor) -> tuple[Tensor, Tensor]:
        """The formula for one candidate with keys and values: o, (D,), and weights, mean over heads, (T,)."""
        values, weights = [], []
        for query_DE, key_DE, value_DE in zip(self.to_query, self.to_key, self.to_value, strict=True):
            key_TE, value_TE = row_TD @ key_DE, row_TD @ value_DE
            weight_T = torch.softmax(key_TE @ (question_D @ query_DE) / math.sqrt(key_DE.shape[1]), dim=0)
            values.append(weight_T @ value_TE)
            weights.append(weight_T)
        return self.to_out(torch.cat(values)), torch.stack(weights).mean(0)


class STCA(nn.Module):
    """Layers of cross attention from candidates to their lists.

    Args:
        positions: Positional encodings of the rows.
        dim: Width.
        heads: Heads of every layer.
        head_dim: Width of a head.
        layers: At least 1.
    """

    def __init__(self, positions: Positions, dim: int, heads: int, head_dim: int, layers: int) -> None:
        super().__init__()
        self.out_dim = dim
        self.positions = PositionTables(positions, dim)
        self.questions = nn.ModuleList(FusedQuestion(layer * dim, dim) for layer in range(layers))
        self.layers = nn.ModuleList(CrossAttention(dim, heads, head_dim) for _ in range(layers))
        self.readout = SwiGLU((layers + 1) * dim, dim)

    def forward(self, x: ListInput) -> Answer:
        """Attends; see the module docstring. Candidates stand list by list."""
        row_ND = full_precision(x.values_ND + self.positions.encode(x.buckets))
        candidate_BD = full_precision(x.candidate_BD + self.positions.candidate_row)
        lists, counts = asked_lists(row_ND, x)
        answers, weights = list[Tensor](), list[Tensor]()
        for question, layer in self._layers():
            query_BHD = layer.folded(question(answers, candidate_BD))
            found = [
                read(query_QHD, row_TD)
                for query_QHD, row_TD in zip(query_BHD.split_with_sizes(counts), lists, strict=True)
            ]
            answers.append(layer.answer(torch.cat([found_QHD for found_QHD, _ in found])))
            weights.append(torch.cat([weight_P for _, weight_P in found]))
        representation_BD = self.readout(torch.cat([*answers, candidate_BD], dim=1)).to(x.candidate_BD.dtype)
        return Answer(
            representation_QD=representation_BD,
            mass_QW=representation_BD[:, :0],
            weight_P=torch.stack(weights).mean(0),
        )

    def reference(self, x: ListInput) -> Answer:
        """The formulas with keys and values, candidate by candidate; same answer as `forward`."""
        rows = lists_of(x.values_ND + self.positions.encode(x.buckets), x.offsets)
        outputs, weights = [], []
        for own_D, number in zip(x.candidate_BD + self.positions.candidate_row, x.list_B.tolist(), strict=True):
            answers, mine = list[Tensor](), list[Tensor]()
            for question, layer in self._layers():
                answer_D, weight_T = layer.reference(question.reference(answers, own_D), rows[number])
                answers.append(answer_D)
                mine.append(weight_T.detach())
            outputs.append(self.readout.reference(torch.cat([*answers, own_D])))
            weights.append(torch.stack(mine).mean(0))
        representation_BD = torch.stack(outputs)
        return Answer(
            representation_QD=representation_BD, mass_QW=representation_BD[:, :0], weight_P=torch.cat(weights)
        )

    def _layers(self) -> Iterator[tuple[FusedQuestion, CrossAttention]]:
        return zip(typed(self.questions, FusedQuestion), typed(self.layers, CrossAttention), strict=True)


def read(query_QHD: Tensor, row_TD: Tensor) -> tuple[Tensor, Tensor]:
    """Gives what the questions of one list find, (Q, H, D), and their weights, mean over heads, (Q T,)."""
    with torch.autocast(row_TD.device.type, enabled=False):
        weight_XT = torch.softmax(query_QHD.flatten(0, 1) @ row_TD.T, dim=1)
        found_QHD = (weight_XT @ row_TD).view_as(query_QHD)
    return found_QHD, weight_XT.detach().view(*query_QHD.shape[:2], len(row_TD)).mean(1).flatten()


class STCABlock(HistoryBlock):
    """An STCA per table set, trained on suffixes.

    Args:
        config: Its options.
        shape: Of the network.
    """

    def __init__(self, config: STCAConfig, shape: Shape) -> None:
        dims = shape.representation_dim, config.heads, config.head_dim, config.layers
        super().__init__(shape, lambda positions: STCA(positions, *dims), positional=True)
        self._suffix = config.suffix

    def forward(self, x: BlockInput) -> list[Interest]:
        """Runs every instance once; in training over suffixes, the same for all instances."""
        if self.training:
            draw = torch.rand(len(x.batch.num_newest), device=x.batch.num_newest.device)
            newest = torch.minimum(x.batch.num_newest, suffix_lengths(draw, *self._suffix))
            x = replace(x, batch=replace(x.batch, num_newest=newest), known_lists={})
        return super().forward(x)

    def ask(self, block: nn.Module, histories: HistoryInput) -> Answer:
        """See `HistoryBlock`."""
        return cast("Answer", block(histories.x))


def suffix_lengths(draw: Tensor, shortest: int, longest: int) -> Tensor:
    """Gives lengths from the arcsine distribution over shortest .. longest, of draws from 0 .. 1. int64."""
    share = torch.sin(draw.double() * (math.pi / 2)).square()
    return shortest + (share * (longest - shortest)).round().long()


@register
class STCAConfig(BlockConfig):
    """Options of the block in a preset. It reads the whole history, with any selection."""

    kind: Literal["stca"]
    heads: int = Field(ge=1, le=64)
    head_dim: int = Field(ge=1, le=256)
    layers: int = Field(ge=1, le=16)
    suffix: tuple[int, int]
    """How short and how long the suffixes are that it is trained on."""
    reads_history = True

    @model_validator(mode="after")
    def _check_suffix(self) -> STCAConfig:
        if not 1 <= self.suffix[0] <= self.suffix[1]:
            raise ValueError(f"suffix: {list(self.suffix)} is no shortest and longest of at least 1")
        return self

    @property
    def newest_read(self) -> int:
        """See `BlockConfig`."""
        return WHOLE_HISTORY

    def build(self, shape: Shape) -> STCABlock:
        """See `BlockConfig`."""
        return STCABlock(self, shape)
