"""Scores of every impression as a Parquet file, for what no aggregate shows: parity, slices, another metric."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from store.dataset.impressions import LABEL
from store.errors import translate_os_errors

if TYPE_CHECKING:
    from pathlib import Path

    from model_stage.training.scoring import Scored

PROBABILITY = "probability_"
"""Columns that start so hold the probabilities of the target named after it."""


def write_scores(path: Path, scored: Scored) -> None:
    """Writes user, item, time, label and probability of every impression of a split, in the order of the input.

    Ids are 64-bit integers; a string is the number that it is hashed to.

    Raises:
        StoreIOError: The file cannot be written.
    """
    rows = scored.impressions
    columns: dict[str, pa.Array] = {
        "user": pa.array(rows.user),
        "item": pa.array(rows.item),
        "timestamp_ms": pa.array(rows.timestamp_ms),
    }
    for at, target in enumerate(rows.targets):
        label = rows.labels[:, at]
        columns[LABEL + target] = pa.array(label, mask=np.isnan(label))
    for at, target in enumerate(scored.targets):
        columns[PROBABILITY + target] = pa.array(scored.probability[:, at])
    with translate_os_errors(f"{path}: cannot be written"):
        pa.parquet.write_table(pa.table(columns), path)
