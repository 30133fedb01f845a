"""Counts and times what a network or a block does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scripts.bench.timing import elapsed_ms

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS = 5
_ENOUGH_MS = 4000.0
"""Slow calls are timed fewer times, but at least twice."""


def count_flops(call: Callable[[], object]) -> int:
    """Gives the floating-point operations of a call by torch's counter, of matrix products and attention alone.

    The plain form of attention is counted: torch gives the fast forms no count on a CPU.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        call()
    return int(counter.get_total_flops())


def activation_mib(call: Callable[[], object]) -> float:
    """Gives what a call keeps for its backward pass, MiB; parameters and inputs that it only names count, once."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    # What was made is held until the end, or the memory of one tensor could be counted as that of another.
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = call()
    del held
    return sum(kept.values()) / 2**20


def median_ms(call: Callable[[], object]) -> float:
    """Gives the median of some calls, milliseconds; the first one is not counted."""
    call()
    took_ms: list[float] = []
    while len(took_ms) < 2 or (len(took_ms) < _ROUNDS and sum(took_ms) < _ENOUGH_MS):
        took_ms.append(elapsed_ms(call))
    return float(np.median(took_ms))
