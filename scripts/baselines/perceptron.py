"""A plain 64-32 perceptron on the fourteen numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from store.types import F64, Bool

EPOCHS = 8
BATCH_SIZE = 256
LEARNING_RATE = 2e-3


def fit_and_score(train: F64, label: Bool, test: F64, seed: int) -> F64:
    """Gives the probability of every test row after fitting the training rows with AdamW.

    Numbers become log(1 + x), standardised with the training rows' mean and deviation. A missing age becomes 0: the
    count beside it says that there is no such event.

    Args:
        train: (N, 14)
        label: (N,)
        test: (R, 14)
        seed: Of the weights and of the order of the rows; the global random state of torch is left as it was.
    """
    inputs = np.log1p(np.nan_to_num(train))
    mean, deviation = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-6)

    def prepare(rows: F64) -> torch.Tensor:
        return torch.as_tensor((np.log1p(np.nan_to_num(rows)) - mean) / deviation, dtype=torch.float32)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(train.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0)
        )
        _fit(network, prepare(train), torch.as_tensor(label, dtype=torch.float32))
    with torch.inference_mode():
        probability: F64 = torch.sigmoid(network(prepare(test)).double()).numpy()
    return probability


def _fit(network: nn.Module, inputs: torch.Tensor, label: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(label)), BATCH_SIZE):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(network(inputs[rows]), label[rows])
            torch.autograd.backward(loss)
            optimizer.step()
