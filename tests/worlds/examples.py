"""Random training examples of any shape, and the comparison of batches."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch

from model_stage.encoding.batch import Batch
from model_stage.training.examples import Example
from model_stage.training.history import Span, UserRows
from tests.worlds.networks import make_request


def make_users(count=60, seed=0) -> UserRows:
    """Gives rows that the histories of `make_example` are spans of."""
    draw = np.random.default_rng(seed)
    return UserRows(
        node=draw.integers(0, 30, count).astype(np.int32),
        side=draw.integers(0, 2, (count, 3)).astype(np.int32),
        timestamp_ms=np.sort(draw.integers(1, 10**12, count)),
    )


def make_example(lengths, seed, *, history=False) -> Example:
    draw = np.random.default_rng([seed, len(lengths)])
    first, length = int(draw.integers(0, 50)), int(draw.integers(0, 6))
    past = Span(first, first + length, 10**12 + seed)
    return Example(
        encoded=make_request(lengths, num_behaviors=9, seed=seed),
        labels=draw.choice(np.array([0, 1, np.nan], np.float32), (len(lengths), 2)),
        rows=draw.integers(0, 10**6, len(lengths)),
        history=past if history else None,
    )


def tensors_of(batch: Batch) -> dict[str, torch.Tensor]:
    found = {field.name: getattr(batch, field.name) for field in fields(batch) if field.name != "multi_valued"}
    return found | {
        f"{at}.{part}": value for at, pair in enumerate(batch.multi_valued) for part, value in enumerate(pair)
    }


def assert_equal(one: Batch, other: Batch) -> None:
    ours, theirs = tensors_of(one), tensors_of(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype, name
        assert value.shape == theirs[name].shape, name
        np.testing.assert_array_equal(value.numpy(), theirs[name].numpy(), name)
