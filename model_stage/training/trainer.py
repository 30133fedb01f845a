"""The optimisation loop: Adam on the weighted log loss, the best epoch on the validation requests wins."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from model_stage.encoding.batch import collate
from model_stage.evaluation.metrics import auc
from model_stage.training.learner import Learner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from model_stage.config.train import TrainConfig
    from model_stage.encoding.batch import EncodedRequest
    from model_stage.networks import RankingNetwork
    from model_stage.training.auxiliary import AuxiliaryModel
    from model_stage.training.history import EncodedHistory
    from store.types import F32, I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One encoded request with its labels."""

    encoded: EncodedRequest
    labels: F32
    """(C, T), NaN = unknown."""
    rows: I64
    """Rows of the impressions it came from. (C,)"""
    history: EncodedHistory | None = None
    """All that the user did before the request, where an auxiliary loss learns from it."""


@dataclass(slots=True, kw_only=True)
class TrainReport:
    """What happened, epoch by epoch."""

    train_loss: list[float] = field(default_factory=list)
    """Of the network alone."""
    auxiliary_loss: list[float] = field(default_factory=list)
    """Before its weight; empty = there was none."""
    validation_auc: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


def train(
    network: RankingNetwork,
    examples: Sequence[Example],
    validation: Sequence[Example],
    target_names: Sequence[str],
    target_weights: Sequence[float],
    config: TrainConfig,
    on_step: Callable[[int, int, int], None] = lambda epoch, done, total: None,
    auxiliary: AuxiliaryModel | None = None,
) -> TrainReport:
    """Trains the network in place and leaves the best epoch's weights in it.

    Parameters that do not require a gradient (a fixed attention table) stay as they are.

    Args:
        network: The network; its dense inputs are standardised with `examples` here.
        examples: Training requests.
        validation: Requests later than those; decide which epoch wins.
        target_names: Names of the label columns.
        target_weights: Weight of each target's loss.
        config: How to train.
        on_step: Called with (epoch, requests done, requests in all) after each batch.
        auxiliary: A second loss, trained along; the training examples have histories for it.
    """
    generator = np.random.default_rng(config.seed)
    network.fit_dense(torch.from_numpy(np.concatenate([e.encoded.dense for e in examples])))
    learner = Learner(network, config, auxiliary)
    weights = torch.tensor(list(target_weights), dtype=torch.float32)
    report, best, best_state = TrainReport(), -np.inf, network.state_dict()
    total = sum(len(e.labels) for e in examples)
    # Dropout draws from torch's own generator, which differs from process to process.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        for epoch in range(config.max_epochs):
            network.train()
            losses, others, done = [], [], 0
            for batch in _shuffled_batches(examples, generator, config):
                inputs, labels = collate([e.encoded for e in batch]), _labels(batch)
                loss = log_loss(network(inputs).logit_BT, labels, weights)
                losses.append(float(loss.detach()))
                if auxiliary is not None:
                    other = log_loss(auxiliary(network, inputs, _histories(batch)), labels, weights)
                    others.append(float(other.detach()))
                    loss = loss + auxiliary.weight * other
                learner.step(loss)
                done += sum(len(e.labels) for e in batch)
                on_step(epoch, done, total)
            report.train_loss.append(float(np.mean(losses)))
            report.auxiliary_loss += [float(np.mean(others))] if others else []
            kept = learner.averaged()
            aucs = _validation_auc(kept, validation, target_names)
            report.validation_auc.append(aucs)
            score = float(np.nanmean(list(aucs.values())))
            if score > best:
                best, report.best_epoch, best_state = score, epoch, copy.deepcopy(kept.state_dict())
            elif epoch - report.best_epoch >= config.patience:
                break
    network.load_state_dict(best_state)
    network.eval()
    return report


def predict(network: RankingNetwork, examples: Sequence[Example], batch_candidates: int = 8192) -> F32:
    """Gives the probabilities of every candidate of the examples, in their order. float32 (N, T)."""
    network.eval()
    out = []
    with torch.inference_mode():
        for batch in batches(examples, batch_candidates):
            out.append(torch.sigmoid(network(collate([e.encoded for e in batch])).logit_BT).numpy())
    return np.concatenate(out)


def log_loss(logit_BT: Tensor, label_BT: Tensor, weight_T: Tensor) -> Tensor:
    """Sum over targets of the weighted mean log loss over candidates with a known label; a scalar."""
    known = ~torch.isnan(label_BT)
    loss_BT = nn.functional.binary_cross_entropy_with_logits(logit_BT, torch.nan_to_num(label_BT), reduction="none")
    mean_T = (loss_BT * known).sum(0) / known.sum(0).clamp(min=1)
    return (mean_T * weight_T).sum()


def batches(examples: Iterable[Example], batch_candidates: int) -> Iterator[list[Example]]:
    """Groups examples, in order, into batches of about `batch_candidates` candidates."""
    batch: list[Example] = []
    size = 0
    for example in examples:
        batch.append(example)
        size += len(example.labels)
        if size >= batch_candidates:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _shuffled_batches(
    examples: Sequence[Example], generator: np.random.Generator, config: TrainConfig
) -> Iterator[list[Example]]:
    """Cuts every request into random parts and deals the parts out at random."""
    parts = []
    for at, example in enumerate(examples):
        shuffled = generator.permutation(len(example.labels))
        parts += [(at, chosen) for chosen in np.array_split(shuffled, -(-len(shuffled) // config.request_candidates))]
    order = generator.permutation(len(parts))
    return batches((_part(examples[parts[i][0]], np.sort(parts[i][1])) for i in order), config.batch_candidates)


def _part(example: Example, chosen: I64) -> Example:
    if len(chosen) == len(example.labels):
        return example
    return replace(
        example, encoded=example.encoded.take(chosen), labels=example.labels[chosen], rows=example.rows[chosen]
    )


def _histories(batch: Sequence[Example]) -> list[EncodedHistory]:
    found = [example.history for example in batch if example.history is not None]
    assert len(found) == len(batch), "examples without histories, which the auxiliary loss reads"
    return found


def _labels(batch: Sequence[Example]) -> Tensor:
    return torch.from_numpy(np.concatenate([e.labels for e in batch]))


def _validation_auc(
    network: RankingNetwork, validation: Sequence[Example], target_names: Sequence[str]
) -> dict[str, float]:
    probability = predict(network, validation)
    labels = np.concatenate([e.labels for e in validation])
    result = {}
    for at, name in enumerate(target_names):
        known = ~np.isnan(labels[:, at])
        result[name] = auc(labels[known, at], probability[known, at])
    return result
