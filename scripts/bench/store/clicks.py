"""The real clicks of `scripts.datasets.globo_news`: all of them ingested, and the newest of them appended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scripts.bench.report import note
from scripts.bench.store.appends import Appends, measure_appends
from scripts.bench.store.bulk import Build, run_ingest
from scripts.bench.store.world import cut
from scripts.bench.timing import in_child
from scripts.datasets.globo_news import CONTEXT, convert
from scripts.datasets.output import write_dataset
from store.events import EventBatch
from store.fields import ID
from store.operations.verify.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.bench.store.run import Settings
    from store.types import U64

BEHAVIORS = "behaviors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clicks:
    """The real click log."""

    counts: dict[str, int]
    """Of the converter."""
    ingest: Build
    base: Build
    """Ingest of what is not appended."""
    appends: Appends
    digest: str
    is_same: bool
    """Whether base and appends hold just what the ingest of everything holds."""


def measure_clicks(originals: Path, work: Path, settings: Settings) -> Clicks:
    """Ingests the whole click log and, into another store, all but the newest clicks, which are appended.

    Args:
        originals: Folder of the original files.
        work: Folder to write in.
        settings: How many clicks to append.
    """
    note("convert the click log")
    counts = in_child(convert, originals, work / "clicks")
    note("ingest the click log")
    ingest = in_child(run_ingest, work / "clicks", work / "store")
    num_newest = in_child(split_clicks, work / "clicks", work / "earlier", settings.appends + settings.singles)
    base = in_child(run_ingest, work / "earlier", work / "live")
    note(f"append {num_newest:,} clicks")
    appends = in_child(append_clicks, work, num_newest, settings.batch_rows, settings.singles)
    note("compare what both hold")
    reports = [in_child(verify, work / root) for root in ("store", "live")]
    is_same = len({(each.num_behaviors, each.num_users, each.digest) for each in reports}) == 1
    digest = reports[0].digest
    return Clicks(counts=counts, ingest=ingest, base=base, appends=appends, digest=digest, is_same=is_same)


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


def append_clicks(work: Path, num_newest: int, batch_rows: int, num_single: int) -> Appends:
    """Appends the newest behaviors to the store of the earlier ones: most in batches, the very last one by one."""
    newest = newest_clicks(work / "clicks", num_newest)
    in_batches = max(len(newest) - num_single, 0)
    starts = range(0, in_batches, batch_rows)
    batches = [cut(newest, start, min(start + batch_rows, in_batches)) for start in starts]
    singles = [cut(newest, row, row + 1) for row in range(in_batches, len(newest))]
    return measure_appends(work / "live", batches, singles, (), work / "control")


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


def _ids(column: pa.ChunkedArray) -> U64:
    ids: U64 = column.to_numpy().astype(np.uint64)
    return ids
