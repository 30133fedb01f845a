"""The optimisation loop: Adam on the weighted log loss, the best epoch on the validation requests wins."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.optim.swa_utils import AveragedModel

from model_stage.encoder import collate
from model_stage.evaluation.metrics import auc
from model_stage.networks import RankingNetwork
from model_stage.schema import StrictModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from model_stage.encoder import EncodedRequest
    from store.types import F32, I64


class TrainConfig(StrictModel):
    """How to train."""

    seed: int = 0
    """Of initial weights and of the order of requests; equal seeds give equal bundles on one machine."""
    max_epochs: int = Field(default=8, ge=1)
    patience: int = Field(default=2, ge=1)
    """Epochs without a better validation AUC (mean over targets) before training stops."""
    batch_candidates: int = Field(default=1024, ge=1)
    """Candidates per step, about."""
    request_candidates: int = Field(default=16, ge=1)
    """Candidates of one request per step at most: they share a user, and a step should see many users."""
    learning_rate: float = Field(default=2e-3, gt=0.0)
    weight_decay: float = Field(default=1.0, ge=0.0)
    """Of the towers' weights (AdamW, decoupled from the gradient)."""
    embedding_l2: float = Field(default=1e-3, ge=0.0)
    """Penalty of every embedding table, part of the gradient; the small positional tables have none. Where there is
    little data it wins, and pulls an item to its category and a category to its parent. A decoupled decay would not:
    Adam takes full steps on rows that are seen once."""
    attention_l2: float = Field(default=1e-4, ge=0.0)
    """The same for the attention table, which has no other way into the score than the attention weights: as much as
    the representation needs would shrink it to nothing, and soft search would be left without an opinion."""
    averaging: float = Field(default=0.998, ge=0.0, lt=1.0)
    """Decay of the running average of the weights, which is what is evaluated and kept; 0 = the last weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One encoded request with its labels."""

    encoded: EncodedRequest
    labels: F32
    """(C, T), NaN = unknown."""
    rows: I64
    """Rows of the impressions it came from. (C,)"""


@dataclass(slots=True, kw_only=True)
class TrainReport:
    """What happened, epoch by epoch."""

    train_loss: list[float] = field(default_factory=list)
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
    """
    generator = np.random.default_rng(config.seed)
    network.fit_dense(torch.from_numpy(np.concatenate([e.encoded.dense for e in examples])))
    averaged = AveragedModel(network, multi_avg_fn=_average(config.averaging))
    kept = averaged.module
    assert isinstance(kept, RankingNetwork)
    optimizers = _optimizers(network, config)
    weights = torch.tensor(list(target_weights), dtype=torch.float32)
    report, best, best_state = TrainReport(), -np.inf, network.state_dict()
    total = sum(len(e.labels) for e in examples)
    # Dropout draws from torch's own generator, which differs from process to process.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        for epoch in range(config.max_epochs):
            network.train()
            losses, done = [], 0
            for batch in _shuffled_batches(examples, generator, config):
                loss = log_loss(network(collate([e.encoded for e in batch])).logit_BT, _labels(batch), weights)
                network.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                for optimizer in optimizers:
                    optimizer.step()
                averaged.update_parameters(network)
                losses.append(float(loss.detach()))
                done += sum(len(e.labels) for e in batch)
                on_step(epoch, done, total)
            report.train_loss.append(float(np.mean(losses)))
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


def _average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Gives a running average that starts short and lengthens to `decay`, so that early weights are soon forgotten."""

    @torch.no_grad()
    def update(averages: Sequence[Tensor], currents: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        steps = float(num_averaged)
        share = 1.0 - min(decay, (1.0 + steps) / (10.0 + steps))
        for average, current in zip(averages, currents, strict=True):
            average.lerp_(current, share)

    return update


def _part(example: Example, chosen: I64) -> Example:
    return Example(encoded=example.encoded.take(chosen), labels=example.labels[chosen], rows=example.rows[chosen])


def _labels(batch: Sequence[Example]) -> Tensor:
    return torch.from_numpy(np.concatenate([e.labels for e in batch]))


def _optimizers(network: RankingNetwork, config: TrainConfig) -> list[torch.optim.Optimizer]:
    def of(*parts: str) -> list[nn.Parameter]:
        return [p for name, p in network.named_parameters() if name.startswith(parts) and p.requires_grad]

    rate = config.learning_rate
    tables = [
        {"params": of("interest."), "weight_decay": 0.0},
        {"params": of("attention."), "weight_decay": config.attention_l2},
        {"params": of("representation.", "categorical.", "multi_valued."), "weight_decay": config.embedding_l2},
    ]
    return [
        torch.optim.Adam(tables, lr=rate, fused=True),
        torch.optim.AdamW(of("towers."), lr=rate, weight_decay=config.weight_decay, fused=True),
    ]


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
