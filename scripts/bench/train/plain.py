"""The control: training as one writes it first, with a padded copy of its history for every example, in memory.

TIN and perceptrons with tables of the same sizes as those of preset `tin`, over tensors of examples x behaviors; rows
of a batch are picked at random and all of them embedded, every parameter changed by Adam as torch has it by default.
Weights are random: only time and memory count.

Legend: N examples, B of a batch, L behaviors of the longest list, P levels of the tree, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from model_stage.blocks.position import position_buckets
from model_stage.training.trainer import log_loss
from scripts.bench.cost.world import TARGETS, WIDTH, vocabularies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model_stage.training.examples import Example

_TOWER = (64, 32)
_FIELD_DIM = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedExamples:
    """One row per example; behaviors beyond the end of its list are masked."""

    node_NL: Tensor
    side_NLF: Tensor
    bucket_NLP: Tensor
    """Bucket of each behavior under every position of every target."""
    mask_NL: Tensor
    candidate_N: Tensor
    categorical_NF: Tensor
    dense_NS: Tensor
    label_NT: Tensor

    @staticmethod
    def of(examples: Sequence[Example]) -> PaddedExamples:
        """Copies the history of every candidate of some requests."""
        longest = max(int(np.diff(example.encoded.offsets).max()) for example in examples)
        columns: list[list[Tensor]] = []
        for example in examples:
            request = example.encoded
            for at in range(len(request.candidate_node)):
                pairs = slice(request.offsets[at], request.offsets[at + 1])
                mine = request.pair_behavior[pairs]
                measures = {
                    "rank": np.arange(len(mine), 0, -1),
                    "interval": request.interval_ms[mine],
                    "match_level": request.match_level[pairs],
                }
                buckets = [
                    position_buckets(position, torch.from_numpy(measures[position.kind]))
                    for target in TARGETS.targets
                    for position in target.positions
                ]
                history = (
                    torch.from_numpy(request.behavior_node[mine]),
                    torch.from_numpy(request.behavior_side[mine]),
                    torch.stack(buckets, dim=1),
                    torch.ones(len(mine), dtype=torch.bool),
                )
                padding = longest - len(mine)
                rows = [nn.functional.pad(each, (0, 0) * (each.dim() - 1) + (0, padding)) for each in history]
                of_candidate = request.candidate_node, request.categorical, request.dense, example.labels
                columns.append(rows + [torch.tensor(each[at]) for each in of_candidate])
        stacked = map(torch.stack, zip(*columns, strict=True))
        return PaddedExamples(**dict(zip(PaddedExamples.__slots__, stacked, strict=True)))

    def take(self, rows: Tensor) -> PaddedExamples:
        """Gives some examples."""
        return PaddedExamples(**{name: getattr(self, name)[rows] for name in self.__slots__})


class PlainTIN(nn.Module):
    """Preset `tin` over padded copies: nothing is shared between examples."""

    def __init__(self, num_items: int, num_dense: int) -> None:
        super().__init__()
        known = vocabularies(num_items)
        self.path = torch.from_numpy(known.tree.path).long()
        self.tables = nn.ModuleList(_BehaviorTables(len(self.path)) for _ in range(2))
        self.fields = nn.ModuleList(nn.Embedding(len(ids) + 2, _FIELD_DIM) for ids in known.categorical.values())
        own = num_dense + WIDTH + _FIELD_DIM * len(self.fields)
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(own + WIDTH + 1, _TOWER[0]), nn.ReLU(), nn.Linear(*_TOWER), nn.ReLU(), nn.Linear(32, 1)
            )
            for _ in TARGETS.targets
        )

    def forward(self, x: PaddedExamples) -> Tensor:
        """Gives a logit per example and target. (B, T)."""
        keys, values = self.tables
        path_BP, path_BLP = self.path[x.candidate_N.long()], self.path[x.node_NL.long()]
        query_BD, shown_BD = keys.nodes(path_BP), values.nodes(path_BP)
        key_BLD, value_BLD = (table.behaviors(path_BLP, x.side_NLF) for table in (keys, values))
        fields = [table(x.categorical_NF[:, at]) for at, table in enumerate(self.fields)]
        own_BX = torch.cat([torch.nan_to_num(x.dense_NS), shown_BD, *fields], dim=1)
        logits, first = [], 0
        for target, tower in zip(TARGETS.targets, self.towers, strict=True):
            at = range(first, first + len(target.positions))
            first += len(target.positions)
            time_BLD = keys.at_positions(x.bucket_NLP, at), values.at_positions(x.bucket_NLP, at)
            score_BL = ((key_BLD + time_BLD[0]) * query_BD[:, None]).sum(2) / math.sqrt(WIDTH)
            score_BL = score_BL.masked_fill(~x.mask_NL, -torch.inf)
            weight_BL = torch.softmax(score_BL, dim=1)
            pooled_BD = (weight_BL[:, :, None] * (value_BLD + time_BLD[1])).sum(1) * shown_BD
            mass_B1 = torch.log1p(score_BL.exp().sum(1, keepdim=True))
            logits.append(tower(torch.cat([pooled_BD, mass_B1, own_BX], dim=1)))
        return torch.cat(logits, dim=1)


class _BehaviorTables(nn.Module):
    """One set of tables: of the tree, of the behaviors' fields, and of every position."""

    def __init__(self, num_rows: int) -> None:
        super().__init__()
        self.node = nn.Embedding(num_rows, WIDTH)
        self.side = nn.ModuleList(nn.Embedding(3, WIDTH) for _ in range(3))
        every = [position for target in TARGETS.targets for position in target.positions]
        self.position = nn.ModuleList(nn.Embedding(position.buckets, WIDTH) for position in every)

    def nodes(self, path: Tensor) -> Tensor:
        return self.node(path).sum(-2)

    def behaviors(self, path_BLP: Tensor, side_BLF: Tensor) -> Tensor:
        return self.nodes(path_BLP) + sum(table(side_BLF[:, :, at]) for at, table in enumerate(self.side))

    def at_positions(self, bucket_BLP: Tensor, positions: range) -> Tensor:
        return sum((self.position[at](bucket_BLP[:, :, at]) for at in positions), start=torch.zeros(()))


def train_plain(examples: Sequence[Example], num_items: int, batch: int, on_step: Callable[[], None]) -> None:
    """Trains one epoch over copies of the examples.

    Args:
        examples: Requests; every candidate of theirs is an example.
        num_items: Of the vocabularies.
        batch: Examples of a step.
        on_step: Called after each step.
    """
    torch.manual_seed(0)
    padded = PaddedExamples.of(examples)
    network = PlainTIN(num_items, padded.dense_NS.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    weights = torch.ones(len(TARGETS.targets))
    for rows in torch.randperm(len(padded.label_NT)).split(batch):
        part = padded.take(rows)
        loss = log_loss(network(part), part.label_NT, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step()
