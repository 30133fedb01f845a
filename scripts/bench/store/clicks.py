"""The real clicks of `scripts.datasets.globo_news`: all of them ingested, and the newest of them appended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scripts.bench.store.appends import measure_appends
from scripts.bench.store.world import cut
from scripts.datasets.globo_news import CONTEXT
from scripts.datasets.output import write_dataset
from store.events import EventBatch
from store.fields import ID
from store.operations.verify.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.bench.store.appends import Appends
    from store.types import U64

BEHAVIORS = "behaviors"


def split_clicks(dataset: Path, earlier: Path, num_newest: int) -> int:
    """Writes the dataset folder without its newest behaviors; gives how many those are, less where there are few.

    Args:
        dataset: What the converter wrote; in time order.
        earlier: Folder to write.
        num_newest: Behaviors to leave out.
    """
    tables = {path.stem: pq.read_table(path) for path in dataset.glob("*.parquet")}
    clicks = tables[BEHAVIORS]
    num_newest = min(num_newest, clicks.num_rows // 2)
    tables[BEHAVIORS] = clicks.slice(0, clicks.num_rows - num_newest)
    write_dataset(earlier, tables, {"behaviors": tables[BEHAVIORS].num_rows})
    return num_newest


def append_clicks(
    dataset: Path, root: Path, control: Path, num_newest: int, batch_rows: int, num_single: int
) -> Appends:
    """Appends the newest behaviors of a dataset folder: most in batches, the very last one by one."""
    newest = newest_clicks(dataset, num_newest)
    in_batches = max(len(newest) - num_single, 0)
    starts = range(0, in_batches, batch_rows)
    batches = [cut(newest, start, min(start + batch_rows, in_batches)) for start in starts]
    singles = [cut(newest, row, row + 1) for row in range(in_batches, len(newest))]
    return measure_appends(root, batches, singles, (), control)


def newest_clicks(dataset: Path, num_newest: int) -> EventBatch:
    """Gives the newest behaviors of a dataset folder as one batch."""
    table = pq.read_table(dataset / f"{BEHAVIORS}.parquet")
    rows = table.slice(table.num_rows - num_newest)
    return EventBatch(
        user=_ids(rows["user"]),
        item=_ids(rows["item"]),
        category=ID.missing(num_newest),
        timestamp_ms=rows["timestamp_ms"].to_numpy(),
        domain=rows["domain"].to_pylist(),
        action=rows["action"].to_pylist(),
        scene=[""] * num_newest,
        key=ID.missing(num_newest),
        # Codes written as decimal text: as ids they are that number (docs/data.md).
        fields={name: _ids(pc.cast(rows[name], pa.uint64())) for name in CONTEXT},
    )


def read_content(root: Path) -> tuple[int, int, str]:
    """Audits a store and gives its events, its users and the digest of both, base and delta together."""
    report = verify(root)
    return report.num_behaviors, report.num_users, report.digest


def _ids(column: pa.ChunkedArray) -> U64:
    ids: U64 = column.to_numpy().astype(np.uint64)
    return ids
