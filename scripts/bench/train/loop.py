"""What is timed of the whole loop: examples per second beside the plain control, and memory by number of examples."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from model_stage.config.train import TrainConfig
from model_stage.training.example_files import ExampleWriter, read_examples
from model_stage.training.examples import Example
from model_stage.training.trainer import train
from scripts.bench.cost.world import ITEMS, TARGETS, make_network, make_request
from scripts.bench.timing import anonymous_mib, peak_rss_mib
from scripts.bench.train.plain import train_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAIN = "plain loop"
"""Stands for a preset where the control is meant."""
UNION, OWN, CANDIDATES = 300, 100, 16
"""A request has 16 candidates, each with 100 behaviors of its own out of 300."""


class Looped(TypedDict):
    """What one training took."""

    step_ms: list[float]
    """From the end of a step to that of the next."""
    candidates: int
    """Of a step."""
    peak_rss_mib: float
    """Largest resident memory of the process, mapped files included."""


class Held(TypedDict):
    """What a training holds in memory of its own: mapped files, which the kernel may drop, are not in it."""

    requests: int
    files_mib: float
    writing_mib: float
    """Largest anonymous memory while examples were made and written."""
    training_mib: float
    """Largest anonymous memory at the end of a step."""


def train_once(preset: str, steps: int, requests: int, warm_up: int) -> Looped:
    """Trains one epoch of some steps from files, or the plain control from memory.

    Args:
        preset: The network, or `PLAIN`.
        steps: Steps counted.
        requests: Requests of each step.
        warm_up: Steps before those.
    """
    torch.set_num_threads(1)
    ends_s: list[float] = []
    made = make_examples((steps + warm_up) * requests)
    if preset == PLAIN:
        train_plain(list(made), ITEMS, CANDIDATES * requests, lambda: ends_s.append(time.perf_counter()))
    else:
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder), made)
            _train(preset, Path(folder), requests, lambda: ends_s.append(time.perf_counter()))
    return Looped(
        step_ms=[1000 * float(took) for took in np.diff(ends_s)[warm_up - 1 :]],
        candidates=CANDIDATES * requests,
        peak_rss_mib=peak_rss_mib(),
    )


def hold(count: int, requests: int, epochs: int) -> Held:
    """Writes examples while they are made, and trains preset `tin` on them; watches memory.

    Args:
        count: Requests in all.
        requests: Of a step.
        epochs: How often each comes by: what the allocator keeps grows with the first hundred steps.
    """
    torch.set_num_threads(1)
    writing, training = [anonymous_mib()], [0.0]

    def watched() -> Iterator[Example]:
        for at, example in enumerate(make_examples(count)):
            if at % 64 == 0:
                writing.append(anonymous_mib())
            yield example

    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), watched())
        files = sum(path.stat().st_size for path in Path(folder).iterdir())
        _train("tin", Path(folder), requests, lambda: training.append(anonymous_mib()), epochs)
    return Held(requests=count, files_mib=files / 2**20, writing_mib=max(writing), training_mib=max(training))


def make_examples(count: int) -> Iterator[Example]:
    """Makes labelled requests, one by one."""
    draw = np.random.default_rng(0)
    for _ in range(count):
        yield Example(
            encoded=make_request(draw, UNION, CANDIDATES, own=OWN),
            labels=draw.integers(0, 2, (CANDIDATES, len(TARGETS.targets))).astype(np.float32),
            rows=np.arange(CANDIDATES),
        )


def _write(folder: Path, examples: Iterator[Example]) -> None:
    with ExampleWriter(folder) as writer:
        writer.write(examples)


def _train(preset: str, folder: Path, requests: int, on_step: Callable[[], None], epochs: int = 1) -> None:
    examples, names = read_examples(folder), TARGETS.names
    first = np.arange(requests)
    offsets = examples.requests.candidate_offsets[: requests + 1]
    validation = examples.take(first, np.arange(offsets[-1]), np.asarray(offsets))
    config = TrainConfig(
        max_epochs=epochs,
        patience=epochs,
        batch_candidates=CANDIDATES * requests,
        request_candidates=CANDIDATES,
    )
    train(
        make_network(preset),
        examples,
        validation,
        names,
        [1.0] * len(names),
        config,
        lambda epoch, done, total: on_step(),
    )
