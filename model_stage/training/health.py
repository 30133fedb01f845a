"""Watches the health of a network while it learns: its tables against their start, its attentions on sampled requests.

Legend: R requests, B candidates, M pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_stage.blocks.interest import PairBlock
from model_stage.evaluation.health import attention_health, find_collapsed, list_overlap, table_health
from model_stage.training.batching import InOrder, batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_stage.encoding.batch import Batch
    from model_stage.evaluation.health import AttentionHealth, TableHealth
    from model_stage.networks import RankingNetwork
    from model_stage.training.examples import Examples
    from store.types import F32, I64

SEARCHED = "attention.node.weight"
"""The table that soft search uses; nothing reads it but attention."""
SAMPLED_REQUESTS = 256
SAMPLED_CANDIDATES = 16
"""Of each of them."""
SAMPLED_PAIRS = 1 << 18
"""At most, but for a single request."""
SOFT_LIST = 10
"""Length of the soft lists that are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Of a network at one moment."""

    tables: Mapping[str, TableHealth]
    """By the parameter's name."""
    attentions: Mapping[str, AttentionHealth]
    """By block and target."""
    collapsed: Sequence[str]
    """What has collapsed, in words."""


class HealthWatch:
    """Measures a network against what it was before it learned.

    Args:
        examples: Requests to look at some of.
        target_names: Of the network's targets.
        start: As `start_norms` gives it.
    """

    def __init__(self, examples: Examples, target_names: Sequence[str], start: Mapping[str, F32]) -> None:
        self._start, self._targets = start, tuple(target_names)
        self._batch = _sampled(examples).batch()
        self._histories = _histories(self._batch)

    @torch.inference_mode()
    def measure(self, network: RankingNetwork) -> Health:
        """Measures the network as it is, and puts it in evaluation mode."""
        measured = {
            name: table_health(self._start[name], table, self._overlap(network) if name == SEARCHED else None)
            for name, table in _tables(network).items()
        }
        tables = {name: table for name, table in measured.items() if table is not None}
        attentions = self._attentions(network)
        read = {name: table for name, table in tables.items() if name == SEARCHED and attentions}
        return Health(tables=tables, attentions=attentions, collapsed=find_collapsed(read, attentions))

    def _overlap(self, network: RankingNetwork) -> float | None:
        history, offsets, asked = self._histories
        nodes, place = np.unique(np.concatenate((history, asked.ravel())), return_inverse=True)
        vectors = network.attention.summed_nodes(torch.from_numpy(nodes)).numpy()
        return list_overlap(vectors, place[: len(history)], offsets, place[len(history) :].reshape(-1, 2), SOFT_LIST)

    def _attentions(self, network: RankingNetwork) -> dict[str, AttentionHealth]:
        output = network.eval()(self._batch)
        offsets = self._batch.pair_offsets
        kept_offsets = (offsets if output.kept is None else torch.searchsorted(output.kept, offsets)).numpy()
        found = {}
        for at, block in enumerate(network.interest):
            if not isinstance(block, PairBlock) or not [*block.parameters()]:
                continue
            for target, interests in zip(self._targets, output.interests, strict=True):
                weight_WM = interests[at].weight_WM.numpy()
                for number, weight_M in enumerate(weight_WM):
                    measured = attention_health(weight_M, kept_offsets)
                    if measured is not None:
                        which = f" {number}" if len(weight_WM) > 1 else ""
                        found[f"interest.{at}{which} of {target}"] = measured
        return found


def start_norms(network: RankingNetwork) -> dict[str, F32]:
    """Gives the norm of each row of each table, before the network learns, by the parameter's name. (V,) each."""
    return {name: np.linalg.norm(table, axis=1) for name, table in _tables(network).items()}


def _tables(network: RankingNetwork) -> dict[str, F32]:
    tables = [group for group in network.parameter_groups() if group.role in ("attention", "table")]
    owned = {id(weight) for group in tables for module in group.modules for weight in module.parameters()}
    return {name: weight.detach().numpy() for name, weight in network.named_parameters() if id(weight) in owned}


def _sampled(examples: Examples) -> Examples:
    """Gives some candidates of some requests, both evenly spread."""
    offsets = examples.requests.candidate_offsets
    requests = np.unique(np.linspace(0, len(examples) - 1, SAMPLED_REQUESTS).astype(np.int64))
    candidates = [
        np.unique(np.linspace(offsets[at], offsets[at + 1] - 1, SAMPLED_CANDIDATES).astype(np.int64)) for at in requests
    ]
    ends = np.concatenate(([0], np.cumsum([len(each) for each in candidates])))
    chosen = examples.take(requests, np.concatenate(candidates), ends)
    order = InOrder(chosen.requests.candidate_offsets)
    return next(batches(chosen, order, chosen.num_candidates, SAMPLED_PAIRS))


def _histories(batch: Batch) -> tuple[I64, I64, I64]:
    """Gives the nodes of the behaviors of requests, each once, where each begins, and two different candidates.

    Requests whose candidates are all of one node are left out. Shapes: `list_overlap`.
    """
    node_U, node_B = batch.behavior_node_U.numpy().astype(np.int64), batch.candidate_node_B.numpy().astype(np.int64)
    behavior_offsets, request_B = batch.behavior_offsets.numpy(), batch.request_B.numpy()
    nodes, asked = [], []
    for request in range(len(behavior_offsets) - 1):
        candidates = node_B[request_B == request]
        if len(candidates) and candidates[0] != candidates[-1]:
            nodes.append(np.unique(node_U[behavior_offsets[request] : behavior_offsets[request + 1]]))
            asked.append(candidates[[0, -1]])
    offsets = np.concatenate(([0], np.cumsum([len(each) for each in nodes], dtype=np.int64)))
    return np.concatenate([*nodes, np.empty(0, np.int64)]), offsets, np.array(asked, np.int64).reshape(-1, 2)
