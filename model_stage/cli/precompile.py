"""The command that compiles ahead: when an image is built, or once before many processes start side by side."""

from __future__ import annotations

import time

import torch

from model_stage.blocks.pair_attention import attend
from store.terminal import say


def compile() -> None:
    """Compile the kernels of the network, for images and machines that shall not do it at a start."""
    started_s = time.monotonic()
    precompile_kernels()
    say(f"compiled, or found compiled, in {time.monotonic() - started_s:.1f} s")


def precompile_kernels() -> None:
    """Attends over one pair, forward and backward. What was compiled stays; a second call takes a moment."""
    query_WBA, key_UGA, bias_WBN, value_UHR = (torch.zeros((1, 1, 1), requires_grad=True) for _ in range(4))
    behavior_M, offsets = torch.zeros(1, dtype=torch.int32), torch.tensor([0, 1])
    bucket_EM = torch.zeros((1, 1), dtype=torch.int32)
    pooled_WBR, *_ = attend(query_WBA, key_UGA, bias_WBN, value_UHR, behavior_M, offsets, bucket_EM)
    torch.autograd.grad(pooled_WBR.sum(), query_WBA)
