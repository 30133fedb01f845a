"""The optimisation loop: Adam on the weighted log loss, the best epoch on the validation requests wins."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from model_stage.encoding.batch import tensor
from model_stage.evaluation.metrics import auc
from model_stage.training.batching import InOrder, Shuffled, batches, prefetched
from model_stage.training.health import Health, HealthWatch, start_norms
from model_stage.training.learner import Learner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from model_stage.config.train import TrainConfig
    from model_stage.encoding.batch import Batch
    from model_stage.networks import RankingNetwork
    from model_stage.training.auxiliary import AuxiliaryModel
    from model_stage.training.examples import Examples
    from store.types import F32

_log = logging.getLogger(__name__)

EVALUATION_CANDIDATES = 8192
"""Candidates scored at once, about."""
EVALUATION_PAIRS = 1 << 19
"""Pairs scored at once, at most."""


@dataclass(slots=True, kw_only=True)
class TrainReport:
    """What happened, epoch by epoch."""

    train_loss: list[float] = field(default_factory=list)
    """Of the network alone."""
    auxiliary_loss: list[float] = field(default_factory=list)
    """Before its weight; empty = there was none."""
    validation_auc: list[dict[str, float]] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    """Of what would be kept of the epoch."""
    best_epoch: int = 0


def train(
    network: RankingNetwork,
    examples: Examples,
    validation: Examples,
    target_names: Sequence[str],
    target_weights: Sequence[float],
    config: TrainConfig,
    on_step: Callable[[int, int, int], None] = lambda epoch, done, total: None,
    auxiliary: AuxiliaryModel | None = None,
    start: Mapping[str, F32] | None = None,
) -> TrainReport:
    """Trains the network in place and leaves the best epoch's weights in it.

    Parameters that do not require a gradient (a fixed attention table) stay as they are.

    Args:
        network: The network; its dense inputs are standardised with `examples` here, and its targets start at their
            share of positives.
        examples: Training requests.
        validation: Requests later than those; decide which epoch wins.
        target_names: Names of the label columns.
        target_weights: Weight of each target's loss.
        config: How to train.
        on_step: Called with (epoch, requests done, requests in all) after each batch.
        auxiliary: A second loss, trained along; the training examples have histories for it.
        start: What the tables were before any training, as `start_norms` gives it; None = what they are now.
    """
    generator = np.random.default_rng(config.seed)
    network.fit_dense(tensor(examples.requests.dense))
    network.fit_shares(tensor(examples.labels))
    watch = HealthWatch(validation, target_names, start_norms(network) if start is None else start)
    learner = Learner(network, config, auxiliary)
    weights = torch.tensor(list(target_weights), dtype=torch.float32)
    report, best, best_state = TrainReport(), -np.inf, network.state_dict()
    total = examples.num_candidates
    # Dropout draws from torch's own generator, which differs from process to process.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        for epoch in range(config.max_epochs):
            network.train()
            losses, others, done = [], [], 0
            for part, inputs in prefetched(_inputs(shuffled_batches(examples, config, generator))):
                labels = torch.from_numpy(part.labels)
                loss = log_loss(network(inputs).logit_BT, labels, weights)
                losses.append(float(loss.detach()))
                if auxiliary is not None:
                    assert part.histories is not None, "examples without histories, which the auxiliary loss reads"
                    other = log_loss(auxiliary(network, inputs, part.histories), labels, weights)
                    others.append(float(other.detach()))
                    loss = loss + auxiliary.weight * other
                learner.step(loss)
                done += part.num_candidates
                on_step(epoch, done, total)
            report.train_loss.append(float(np.mean(losses)))
            report.auxiliary_loss += [float(np.mean(others))] if others else []
            kept = learner.averaged()
            aucs = _validation_auc(kept, validation, target_names)
            report.validation_auc.append(aucs)
            report.health.append(watch.measure(kept))
            measured = [value for value in aucs.values() if not np.isnan(value)]
            # Where nothing can be measured the last epoch is as good as any.
            score = float(np.mean(measured)) if measured else -np.inf
            if score > best or not measured:
                best, report.best_epoch, best_state = score, epoch, copy.deepcopy(kept.state_dict())
            elif epoch - report.best_epoch >= config.patience:
                break
    network.load_state_dict(best_state)
    network.eval()
    for problem in report.health[report.best_epoch].collapsed:
        _log.warning("%s", problem)
    return report


def predict(network: RankingNetwork, examples: Examples) -> F32:
    """Gives the probabilities of every candidate of the examples, in their order. float32 (N, T)."""
    return torch.sigmoid(torch.from_numpy(logits_of(network, examples))).numpy()


def logits_of(network: RankingNetwork, examples: Examples) -> F32:
    """Gives the logits of every candidate of the examples, in their order. float32 (N, T)."""
    out, done = np.empty_like(examples.labels), 0
    network.eval()
    order = InOrder(examples.requests.candidate_offsets)
    with torch.inference_mode():
        for _, inputs in prefetched(_inputs(batches(examples, order, EVALUATION_CANDIDATES, EVALUATION_PAIRS))):
            logit_BT = network(inputs).logit_BT
            out[done : done + len(logit_BT)] = logit_BT.numpy()
            done += len(logit_BT)
    return out


def log_loss(logit_BT: Tensor, label_BT: Tensor, weight_T: Tensor) -> Tensor:
    """Sum over targets of the weighted mean log loss over candidates with a known label; a scalar."""
    known = ~torch.isnan(label_BT)
    loss_BT = nn.functional.binary_cross_entropy_with_logits(logit_BT, torch.nan_to_num(label_BT), reduction="none")
    mean_T = (loss_BT * known).sum(0) / known.sum(0).clamp(min=1)
    return (mean_T * weight_T).sum()


def shuffled_batches(examples: Examples, config: TrainConfig, generator: np.random.Generator) -> Iterator[Examples]:
    """Gives the batches of one epoch."""
    order = Shuffled.of(examples.requests.candidate_offsets, config.request_candidates, generator)
    return batches(examples, order, config.batch_candidates, config.batch_pairs)


def _inputs(parts: Iterator[Examples]) -> Iterator[tuple[Examples, Batch]]:
    return ((part, part.batch()) for part in parts)


def _validation_auc(network: RankingNetwork, validation: Examples, target_names: Sequence[str]) -> dict[str, float]:
    # Of logits: float32 probabilities have few different values near 1.
    logits, labels = logits_of(network, validation), validation.labels
    result = {}
    for at, name in enumerate(target_names):
        known = ~np.isnan(labels[:, at])
        result[name] = auc(labels[known, at], logits[known, at])
    return result
