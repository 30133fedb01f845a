"""The loss of training, by hand: known labels alone, each target by its own count and weight."""

from __future__ import annotations

import math

import torch

from model_stage.training.trainer import log_loss

NAN = math.nan


def test_an_unknown_label_is_neither_yes_nor_no():
    logit_BT = torch.tensor([[0.0, 2.0], [0.0, -1.0], [5.0, 3.0]])
    label_BT = torch.tensor([[1.0, NAN], [0.0, 1.0], [NAN, NAN]])
    weight_T = torch.tensor([1.0, 10.0])
    loss = log_loss(logit_BT, label_BT, weight_T)
    torch.testing.assert_close(loss, torch.tensor(math.log(2.0) + 10.0 * math.log(1.0 + math.e)))


def test_a_target_without_a_known_label_says_nothing():
    logit_BT = torch.tensor([[0.5], [1.5]], requires_grad=True)
    loss = log_loss(logit_BT, torch.tensor([[NAN], [NAN]]), torch.ones(1))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logit_BT.grad is not None
    assert logit_BT.grad.tolist() == [[0.0], [0.0]]
