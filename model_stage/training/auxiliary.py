"""The auxiliary loss: attention over whole histories, for the attention table's sake.

Search retrieves a few hundred behaviors, and the network's loss passes gradient to those alone: the attention table
would learn to weigh what it is shown, not what to ask for. Here a DARE block over the network's own tables attends over
the user's whole history as of the request, and a head of its own predicts the labels from [v, u].

Source: DARE, arXiv 2410.02604 (code: `aux_loss`, `auxiliary_mlp`). Our choice: positional tables of its own, with the
encodings of all targets; a history as a whole was not retrieved, so its match level is that of "not found".

Legend: B candidates, T targets, H behaviors of whole histories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from model_stage.blocks.dare import DARE, WholeHistories
from model_stage.blocks.position import position_buckets
from model_stage.encoding.batch import tensor
from model_stage.networks.network import table_sets
from model_stage.networks.parameters import ParameterGroup
from model_stage.networks.towers import tower
from store.retrieval import NO_LEVEL

if TYPE_CHECKING:
    from model_stage.config.schema import Schema
    from model_stage.config.targets import Targets
    from model_stage.encoding.batch import Batch
    from model_stage.networks import NetworkConfig, RankingNetwork
    from model_stage.training.history import Histories

_TIME_DIM = 8
"""Width of a bucket's vector, as in preset `dare`."""


class AuxiliaryModel(nn.Module):
    """What predicts the labels from whole histories: a block and a head, trained with the network and then dropped.

    Args:
        schema: Of the network.
        targets: Of the network.
        config: Of the network; the head is as wide as a target's tower.
        weight: Of its loss, beside the network's.
        seed: Of its initial weights.
    """

    def __init__(self, schema: Schema, targets: Targets, config: NetworkConfig, weight: float, seed: int) -> None:
        super().__init__()
        self.weight = weight
        _, (self._positions,) = table_sets(targets, shared=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.block = DARE(self._positions, schema.representation_dim, _TIME_DIM)
            width = schema.representation_dim + self.block.out_dim
            self.head = tower(width, config.tower, len(targets.targets))

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Gives how its parts are trained: as those of a network."""
        return ParameterGroup(role="block", modules=(self.block,)), ParameterGroup(role="head", modules=(self.head,))

    def forward(self, network: RankingNetwork, batch: Batch, histories: Histories) -> Tensor:
        """Gives a logit per candidate and target. (B, T).

        Args:
            network: Whose tables are read.
            batch: Candidates of some requests.
            histories: Of each request, in the order of the batch, as `Histories.take` gives them.
        """
        lengths = np.diff(histories.offsets)
        node_H, side_HF = tensor(histories.rows.node), tensor(histories.rows.side)
        interval_ms_H = tensor(histories.interval_ms)
        rank_H = np.repeat(histories.offsets[1:], lengths) - np.arange(len(histories.rows))
        columns = {
            "rank": torch.from_numpy(rank_H),
            "interval": interval_ms_H,
            "calendar": interval_ms_H,
            "match_level": torch.full((len(rank_H),), NO_LEVEL),
        }
        candidates = torch.bincount(batch.request_B, minlength=len(lengths))
        representation_BR = network.representation.nodes(batch.candidate_node_B)
        whole = WholeHistories(
            attention_HA=network.attention.behaviors(node_H, side_HF),
            representation_HR=network.representation.behaviors(node_H, side_HF),
            buckets=[position_buckets(position, columns[position.kind]) for position in self._positions],
            lengths=lengths.tolist(),
            attention_BA=network.attention.nodes(batch.candidate_node_B),
            representation_BR=representation_BR,
            candidates=candidates.tolist(),
        )
        logit_BT: Tensor = self.head(torch.cat([representation_BR, self.block.attend_whole(whole)], dim=1))
        return logit_BT
