"""How a block reads the user's whole history: once per request, for all candidates, in memory that is bounded.

The history is the newest rows of the union, all of them (`store.retrieval.WHOLE_HISTORY`), so what a retrieved behavior
weighs in it can be told. Candidates of a request that have the same node are one to such a block, and ask once. Of a
network that only scores, candidates are asked some at a time.

Legend: N rows of L histories, B candidates, Q questions, M pairs, P (question, row of its history) pairs, D width,
W attentions, U behaviors of the union, X numbered rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model_stage.blocks.interest import Interest, PerTable, without_match_level
from model_stage.blocks.pairs import full_precision
from model_stage.blocks.ragged import lengths_to_offsets, offsets_to_segments
from model_stage.blocks.sequence import lists_of
from store.retrieval import WHOLE_HISTORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from model_stage.blocks.block_input import BlockInput, Positions, Shape
    from model_stage.blocks.lists import Lists
    from model_stage.blocks.sequence import ListInput

CELLS = 1 << 22
"""(candidate, row) pairs to look at at once where no gradient is wanted, but for a single candidate."""
_ROOM = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryInput:
    """The histories of a batch, and the candidates that read them."""

    x: ListInput
    lists: Lists
    node_B: Tensor
    """Node of each candidate."""
    node_N: Tensor
    side_NF: Tensor
    """What the rows are made of."""
    count_N: Tensor | None = None
    """Behaviors that each row stands for; None = one."""

    def distinct(self) -> HistoryInput:
        """Gives each list with rows of the same node and side-info once, in no order: for blocks without time."""
        lists, list_N = self.lists, offsets_to_segments(self.lists.offsets)
        first_N, number_N = number_rows([list_N, self.node_N, *self.side_NF.unbind(1)])
        offsets = lengths_to_offsets(torch.bincount(list_N[first_N], minlength=len(lists.offsets) - 1))
        assert lists.place_M is not None
        list_M = torch.repeat_interleave(lists.list_B, lists.pair_offsets.diff())
        there_M = lists.place_M >= 0
        row_M = (lists.offsets[list_M] + lists.place_M)[there_M]
        place_M = lists.place_M.long().masked_scatter(there_M, number_N[row_M] - offsets[list_M[there_M]])
        return HistoryInput(
            x=replace(
                self.x,
                values_ND=self.x.values_ND.index_select(0, first_N),
                offsets=offsets,
                interval_ms_N=self.x.interval_ms_N[first_N],
                buckets=[bucket_N[first_N] for bucket_N in self.x.buckets],
            ),
            lists=replace(lists, behavior_N=lists.behavior_N[first_N], offsets=offsets, place_M=place_M),
            node_B=self.node_B,
            node_N=self.node_N[first_N],
            side_NF=self.side_NF[first_N],
            count_N=torch.bincount(number_N, minlength=len(first_N)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What questions find in their histories."""

    representation_QD: Tensor
    mass_QW: Tensor
    weight_P: Tensor
    """Softmax weights, the mean over heads and layers, question by question, oldest row first. No gradient."""


class HistoryBlock(PerTable):
    """A block that reads whole histories as lists; its answer depends on a candidate's node alone.

    Args:
        shape: See `PerTable`.
        make: See `PerTable`.
        positional: See `PerTable`.
        num_masses: See `InterestBlock`.
    """

    def __init__(
        self, shape: Shape, make: Callable[[Positions], nn.Module], *, positional: bool, num_masses: int = 0
    ) -> None:
        super().__init__(without_match_level(shape), make, positional=positional, num_masses=num_masses)

    def read(self, block: nn.Module, x: BlockInput, positions: Positions) -> Interest:
        """Gives the interest that one instance finds."""
        joined, lists = x.lists_with(positions, WHOLE_HISTORY)
        rows = lists.behavior_N
        whole = self.prepared(
            HistoryInput(
                x=joined,
                lists=lists,
                node_B=x.batch.candidate_node_B,
                node_N=x.batch.behavior_node_U.index_select(0, rows),
                side_NF=x.batch.behavior_side_UF.index_select(0, rows),
            )
        )
        found = [self._read(block, part) for part in _parts(whole)]
        return found[0] if len(found) == 1 else _joined(found)

    def prepared(self, histories: HistoryInput) -> HistoryInput:
        """Gives the histories as the block wants them."""
        return histories

    def ask(self, block: nn.Module, histories: HistoryInput) -> Answer:
        """Runs an instance; the candidates stand list by list."""
        raise NotImplementedError

    def _read(self, block: nn.Module, histories: HistoryInput) -> Interest:
        x, lists = histories.x, histories.lists
        first_Q, number_B = number_rows([lists.list_B, histories.node_B])
        list_Q = lists.list_B[first_Q]
        asked = replace(x, candidate_BD=x.candidate_BD.index_select(0, first_Q), list_B=list_Q)
        answer = self.ask(block, replace(histories, x=asked))
        start_Q = lengths_to_offsets(lists.offsets.diff()[list_Q])
        weight_M, rest_B = lists.asked(full_precision(answer.weight_P), start_Q[:-1][number_B])
        return Interest(
            representation_BR=answer.representation_QD.index_select(0, number_B),
            mass_BW=full_precision(answer.mass_QW).index_select(0, number_B),
            weight_WM=weight_M[None],
            rest_B=rest_B,
        )


def number_rows(columns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Numbers the distinct rows of some columns, ascending; gives a row of each, int64, and the number of every row.

    Args:
        columns: Integers that are not negative. (X,) each.
    """
    key, room = columns[0].long(), 1 + int(columns[0].max()) if len(columns[0]) else 1
    for column in columns[1:]:
        width = 1 + int(column.max()) if len(column) else 1
        if room * width > _ROOM:
            distinct, key = torch.unique(key, return_inverse=True)
            room = len(distinct)
        key, room = key * width + column, room * width
    distinct, number = torch.unique(key, return_inverse=True)
    first = torch.full_like(distinct, len(key))
    return first.scatter_reduce(0, number, torch.arange(len(key), device=key.device), "amin"), number


def asked_lists(values_ND: Tensor, x: ListInput) -> tuple[list[Tensor], list[int]]:
    """Gives the rows of the lists that are asked, and how many candidates ask each; these stand list by list."""
    counts = torch.bincount(x.list_B, minlength=len(x.offsets) - 1).tolist()
    lists = [rows for rows, count in zip(lists_of(values_ND, x.offsets), counts, strict=True) if count]
    return lists, [count for count in counts if count]


def _parts(histories: HistoryInput) -> Iterator[HistoryInput]:
    """Cuts the candidates into parts, where no gradient is wanted."""
    lists, count = histories.lists, len(histories.node_B)
    ends = lists.offsets.diff()[lists.list_B].cumsum(0).tolist()
    if torch.is_grad_enabled() or count < 2 or ends[-1] <= CELLS:
        yield histories
        return
    start, before = 0, 0
    for stop in range(1, count + 1):
        if stop == count or ends[stop] - before > CELLS:
            part = lists.part(start, stop)
            x = replace(histories.x, candidate_BD=histories.x.candidate_BD[start:stop], list_B=part.list_B)
            yield replace(histories, x=x, lists=part, node_B=histories.node_B[start:stop])
            start, before = stop, ends[stop - 1]


def _joined(parts: Sequence[Interest]) -> Interest:
    return Interest(
        representation_BR=torch.cat([each.representation_BR for each in parts]),
        mass_BW=torch.cat([each.mass_BW for each in parts]),
        weight_WM=torch.cat([each.weight_WM for each in parts], dim=1),
        rest_B=torch.cat([each.rest_B for each in parts]),
    )
