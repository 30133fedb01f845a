"""Attention over pairs on a device equals that on the CPU; run by `make test-gpu` on a machine that has one."""

from __future__ import annotations

import pytest
import torch

from model_stage.blocks.pair_attention import attend
from tests.worlds.pair_attention import Sizes, gradients, inputs

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[0], [1], [100] * 20, [3, 0, 200, 17]], ids=str)
def test_the_device_attends_as_the_cpu_does(lengths, dtype):
    sizes = Sizes(lengths=lengths, keys=2, values=1, attentions=6, rows=300, width=64, value_width=64, buckets=40)
    x = inputs(sizes, scale=0.3, dtype=dtype)
    on_device = [values.detach().cuda().requires_grad_(values.is_floating_point()) for values in x]
    found, theirs = attend(*x), attend(*on_device)
    for expected, got in zip(found, theirs, strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-5)
    tolerance = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {"rtol": 1e-3, "atol": 1e-4}
    for expected, got in zip(gradients(found, x[:4]), gradients(theirs, on_device[:4]), strict=True):
        torch.testing.assert_close(got.cpu(), expected, **tolerance)
