"""Vectors and an index of nothing else: for soft search alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from search_stage.index.vectors import to_float32


def vectors(rng: np.random.Generator, count: int, dim: int, coarse: bool) -> np.ndarray:
    """Coarse vectors tie often and exactly, fine ones only where they are equal."""
    if coarse:
        return rng.integers(-2, 3, (count, dim)).astype(np.float32) / 2
    return rng.standard_normal((count, dim)).astype(np.float32)


def index_of(table: np.ndarray) -> SimpleNamespace:
    """Gives what soft search needs of an index."""
    return SimpleNamespace(
        table=table, dim=table.shape[1], take=lambda rows: to_float32(table.take(rows, axis=0)).copy()
    )
