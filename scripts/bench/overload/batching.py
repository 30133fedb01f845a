"""Whether to score several requests as one batch pays on a CPU: the network alone, requests together or one by one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from model_stage.encoding.batch import collate
from scripts.bench.cost.world import make_network, make_request

if TYPE_CHECKING:
    from collections.abc import Iterator

PRESETS = ("tin", "tencent")
CANDIDATES = (10, 100)
LENGTH, OWN = 1_500, 100
"""Behaviors of a request, and of each candidate out of them."""
TOGETHER = (1, 2, 4)
ROUNDS = 15


class BatchRow(TypedDict):
    """One preset and size."""

    preset: str
    candidates: int
    requests: int
    """Scored together."""
    ms_per_request: float
    """CPU of batch and network, one thread, the least of some rounds: what else the machine does must not count."""
    over_alone: float


def measure_batching() -> Iterator[BatchRow]:
    """Gives a row for each preset, number of candidates and number of requests; all of a kind are timed in turn."""
    torch.set_num_threads(1)
    for preset in PRESETS:
        network = make_network(preset).eval()
        for count in CANDIDATES:
            draw = np.random.default_rng(count)
            requests = [make_request(draw, LENGTH, count, own=OWN) for _ in range(max(TOGETHER))]
            times: dict[int, list[float]] = {number: [] for number in TOGETHER}
            with torch.inference_mode():
                for _ in range(ROUNDS + 1):
                    for number, of_number in times.items():
                        begin_s = time.thread_time()
                        network(collate(requests[:number]))
                        of_number.append(1000 * (time.thread_time() - begin_s) / number)
            least = {number: min(of_number[1:]) for number, of_number in times.items()}
            for number, ms in least.items():
                yield BatchRow(
                    preset=preset,
                    candidates=count,
                    requests=number,
                    ms_per_request=ms,
                    over_alone=ms / least[1],
                )
