"""What is timed: the training loop itself, step by step, over generated requests and large tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from model_stage.config.train import TrainConfig
from model_stage.training.examples import Example, Examples
from model_stage.training.trainer import train
from scripts.bench.cost.world import TARGETS, make_network, make_request
from scripts.bench.timing import peak_rss_mib

if TYPE_CHECKING:
    from typing import Literal

    Tables = Literal["dense", "touched"]

PRESET = "tin"
CANDIDATES = 16
"""Of each request."""
BEHAVIORS = 100
"""Of each request; all are retrieved for each of its candidates."""


class Trained(TypedDict):
    """What one training took."""

    step_ms: list[float]
    """From the end of a step to that of the next: batch, forward, backward, optimiser, average."""
    touched_rows: float
    """Distinct tree rows that a step reads, the mean over steps."""
    peak_rss_mib: float
    """Largest resident memory of the process."""
    before_rss_mib: float
    """The same before training, network and requests made."""


def train_tables(num_items: int, tables: Tables, steps: int, requests: int, warm_up: int) -> Trained:
    """Trains one epoch of some steps; those of the warm-up are not counted, the first one makes the moments.

    Args:
        num_items: Rows of each tree table, about.
        tables: As in `TrainConfig`.
        steps: Steps counted.
        requests: Requests of each step.
        warm_up: Steps before those.
    """
    torch.set_num_threads(1)
    examples = _requests((steps + warm_up) * requests, num_items)
    network = make_network(PRESET, num_items)
    path = network.attention.path.numpy()
    touched = [
        len(np.unique(path[np.concatenate([_nodes(example) for example in examples[at : at + requests]])]))
        for at in range(0, len(examples), requests)
    ]
    config = TrainConfig(
        max_epochs=1, tables=tables, batch_candidates=CANDIDATES * requests, request_candidates=CANDIDATES
    )
    ends_s: list[float] = []
    before = peak_rss_mib()
    names = TARGETS.names
    columns, validation = Examples.of(examples), Examples.of(examples[:requests])
    train(
        network,
        columns,
        validation,
        names,
        [1.0] * len(names),
        config,
        lambda epoch, done, total: ends_s.append(time.perf_counter()),
    )
    return Trained(
        step_ms=[1000 * float(took) for took in np.diff(ends_s)[warm_up - 1 :]],
        touched_rows=float(np.mean(touched)),
        peak_rss_mib=peak_rss_mib(),
        before_rss_mib=before,
    )


def _requests(count: int, num_items: int) -> list[Example]:
    draw = np.random.default_rng(0)
    shape = CANDIDATES, len(TARGETS.names)
    return [
        Example(
            encoded=make_request(draw, BEHAVIORS, CANDIDATES, num_items),
            labels=draw.integers(0, 2, shape).astype(np.float32),
            rows=np.arange(CANDIDATES),
        )
        for _ in range(count)
    ]


def _nodes(example: Example) -> np.ndarray:
    return np.concatenate([example.encoded.behavior_node, example.encoded.candidate_node])
