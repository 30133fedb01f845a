"""Deep Interest Network: a small perceptron looks at each behavior beside the candidate.

    s_i = MLP([v, e_i, v - e_i, v * e_i]) / sqrt(R)        one hidden layer after another, sigmoid between
    a   = softmax(s)          u = sum_i a_i e_i          mass = log(1 + sum_i exp(s_i))

Source: DIN, arXiv 1706.06978; the four inputs, hidden widths 80 and 40, sigmoid, scale and softmax are those of its
official code (the paper speaks of weights that do not sum to 1: the mass, our choice, keeps what that keeps). One table
set and no time, as there.

Legend: M pairs, U behaviors of the union, B candidates, R representation width, H hidden width, K pairs of a candidate.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model_stage.blocks.history import Answer, HistoryBlock, asked_lists
from model_stage.blocks.interest import PairBlock
from model_stage.blocks.pairs import (
    Attended,
    AttentionInput,
    full_linear,
    full_precision,
    pair_softmax,
    pooled_rows,
)
from model_stage.blocks.registry import BlockConfig, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.blocks.block_input import Shape
    from model_stage.blocks.history import HistoryInput
    from model_stage.blocks.sequence import ListInput

CELLS = 1 << 15
"""(candidate, row) pairs of a list to look at at once: what the perceptron makes of them stays in a cache."""


class DIN(nn.Module):
    """One attention by a perceptron, on the representation table.

    The first layer is linear in v, e and v * e, so the fast path applies it once to every candidate and to every
    behavior of the union, and per pair to the product alone.
    """

    def __init__(self, representation_dim: int, hidden: Sequence[int] = (80, 40)) -> None:
        super().__init__()
        self.first = nn.Linear(4 * representation_dim, hidden[0])
        self.later = nn.ModuleList(nn.Linear(into, out) for into, out in itertools.pairwise(hidden))
        self.last = nn.Linear(hidden[-1], 1)
        self.out_dim = representation_dim

    def forward(self, x: AttentionInput) -> Attended:
        """Attends; see the module docstring."""
        candidate_HR, behavior_HR, difference_HR, product_HR = self.first.weight.chunk(4, dim=1)
        item_MR = x.representation_UR.index_select(0, x.behavior_M)
        value_MR = x.representation_BR.index_select(0, x.candidate_M)
        of_behavior_UH = nn.functional.linear(x.representation_UR, behavior_HR - difference_HR)
        of_candidate_BH = nn.functional.linear(x.representation_BR, candidate_HR + difference_HR, self.first.bias)
        hidden_MH = (
            of_behavior_UH.index_select(0, x.behavior_M)
            + of_candidate_BH.index_select(0, x.candidate_M)
            + nn.functional.linear(value_MR * item_MR, product_HR)
        )
        score_M1 = self._later(hidden_MH) / math.sqrt(self.out_dim)
        weight_M1, mass_B1 = pair_softmax(score_M1, x.candidate_M, x.num_candidates)
        pooled_B1R = pooled_rows(weight_M1, item_MR[:, None], x.candidate_M, x.num_candidates)
        representation_BR = pooled_B1R.squeeze(1).to(x.representation_BR.dtype)
        return Attended(representation_BR=representation_BR, mass_BW=mass_B1, weight_WM=weight_M1.T)

    def read_lists(self, x: ListInput, count_N: Tensor) -> Answer:
        """Attends over rows of lists, each of which stands for several behaviors that are alike.

        The same as `forward` over every pair of a candidate and a row of its list, as often as it counts; no more than
        `CELLS` pairs are looked at at once, and what is computed of them is computed again for the gradient.

        Args:
            x: The rows, and the candidates, list by list.
            count_N: Behaviors of each row, 1 or more.
        """
        lists, counts = asked_lists(x.values_ND, x)
        logs, _ = asked_lists(count_N.log(), x)
        pooled, masses, weights = [], [], []
        for item_TR, log_T, value_QR in zip(lists, logs, x.candidate_BD.split_with_sizes(counts), strict=True):
            for value_CR in torch.split(value_QR, max(CELLS // max(len(item_TR), 1), 1)):
                again = torch.is_grad_enabled() and len(item_TR) > 0
                found = (
                    checkpoint(self._read, item_TR, log_T, value_CR, use_reentrant=False, preserve_rng_state=False)
                    if again
                    else self._read(item_TR, log_T, value_CR)
                )
                pooled.append(found[0])
                masses.append(found[1])
                weights.append(found[2].detach().flatten())
        representation_QR = torch.cat(pooled).to(x.candidate_BD.dtype)
        return Answer(representation_QD=representation_QR, mass_QW=torch.cat(masses), weight_P=torch.cat(weights))

    def _read(self, item_TR: Tensor, log_T: Tensor, value_CR: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gives of one list what was pooled, (C, R), the mass, (C, 1), and the weights of single behaviors, (C, T)."""
        candidate_HR, behavior_HR, difference_HR, product_HR = self.first.weight.chunk(4, dim=1)
        crossed_CHR = value_CR[:, None] * product_HR
        hidden_TCH = (item_TR @ crossed_CHR.flatten(0, 1).T).view(len(item_TR), *crossed_CHR.shape[:2])
        hidden_TCH = hidden_TCH + nn.functional.linear(item_TR, behavior_HR - difference_HR)[:, None]
        hidden_TCH = hidden_TCH + nn.functional.linear(value_CR, candidate_HR + difference_HR, self.first.bias)
        score_TC = self._later(hidden_TCH).squeeze(2) / math.sqrt(self.out_dim) + log_T[:, None]
        weight_CT = torch.softmax(score_TC, dim=0).T
        mass_C = torch.logaddexp(score_TC.new_zeros(()), torch.logsumexp(score_TC, dim=0))
        with torch.autocast(item_TR.device.type, enabled=False):
            pooled_CR = weight_CT @ full_precision(item_TR)
        return pooled_CR, mass_C[:, None], weight_CT / log_T.exp()

    def reference(self, x: AttentionInput) -> Attended:
        """The formulas of the module docstring, candidate by candidate; same answer as `forward`."""

        def attend(candidate: int, mine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            item_KR = x.representation_UR[x.behavior_M[mine]]
            value_KR = x.representation_BR[candidate].expand_as(item_KR)
            seen = torch.cat([value_KR, item_KR, value_KR - item_KR, value_KR * item_KR], dim=1)
            score_K1 = self._later(self.first(seen)) / math.sqrt(self.out_dim)
            weight_K1 = torch.softmax(score_K1, dim=0)
            return (weight_K1 * item_KR).sum(0), weight_K1, score_K1

        return x.by_candidate(attend)

    def _later(self, hidden: Tensor) -> Tensor:
        for layer in self.later:
            hidden = layer(torch.sigmoid(hidden))
        return full_linear(torch.sigmoid(hidden), self.last.weight, self.last.bias)


class HistoryDIN(HistoryBlock):
    """DIN over the whole history: what is alike in it, item and side-info, is looked at once and counted.

    Args:
        shape: Of the network.
        hidden: Of the perceptron.
    """

    def __init__(self, shape: Shape, hidden: Sequence[int]) -> None:
        super().__init__(shape, lambda _: DIN(shape.representation_dim, hidden), positional=False, num_masses=1)

    def prepared(self, histories: HistoryInput) -> HistoryInput:
        """Gives the histories with every distinct row once."""
        return histories.distinct()

    def ask(self, block: nn.Module, histories: HistoryInput) -> Answer:
        """See `HistoryBlock`."""
        assert histories.count_N is not None
        return cast("DIN", block).read_lists(histories.x, histories.count_N)


@register
class DINConfig(BlockConfig):
    """Options of the block in a preset."""

    kind: Literal["din"]
    hidden: tuple[int, ...] = Field(min_length=1)
    reads_history = True

    def build(self, shape: Shape) -> PairBlock | HistoryDIN:
        """See `BlockConfig`."""
        if shape.history:
            return HistoryDIN(shape, self.hidden)
        dims = shape.representation_dim, self.hidden
        return PairBlock(shape, lambda positions: DIN(*dims), positional=False, num_masses=1)
