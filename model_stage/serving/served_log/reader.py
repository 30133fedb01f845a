"""Reads served logs back, file by file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_stage.serving import convert
from model_stage.serving.served_log.tables import FORMAT, FORMAT_KEY, REQUESTS
from serving.wire import search as wire
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from model_stage.types import RankRequest
    from store.retrieval import SearchResult
    from store.types import F32, U32

BATCH = 256
"""Requests that are held at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One request of a served log."""

    request_id: str
    bundle: str
    store_generation: str
    """Empty = search did not answer; so is `index_generation`, or there was no index."""
    index_generation: str
    delta_sequence: int
    degraded_reason: str
    ancestors_reason: str
    num_behaviors: int
    newest: int
    """How many of the user's newest behaviors search was asked for."""
    targets: tuple[str, ...]
    num_retrieved: U32
    """(C,)"""
    probability: F32
    """(C, T)"""
    request_bytes: bytes
    found_bytes: bytes
    """Empty where the answer was degraded."""

    @property
    def request(self) -> RankRequest:
        """The request as it came."""
        return convert.request_from_bytes(self.request_bytes)

    @property
    def found(self) -> SearchResult:
        """What search answered; not for a degraded answer."""
        return wire.result_from_bytes(self.found_bytes, len(self.num_retrieved))


def request_files(log: Path) -> list[Path]:
    """Gives the files of requests of a log, oldest first.

    Args:
        log: The folder, or one of its files.

    Raises:
        InputError: There are none.
    """
    files = [log] if log.is_file() else sorted(log.glob("requests-*.parquet"))
    if not files:
        raise InputError(f"{log}: holds no requests-*.parquet; give the folder that `serve --served-log` writes")
    return files


def read_requests(file: Path, *, among: Sequence[int] | None = None) -> Iterator[Logged]:
    """Gives the requests of a file, in the order they were served.

    Args:
        file: One that `request_files` gives.
        among: Rows to give, ascending; None = all.

    Raises:
        InputError: It is no such file, or one of another version.
    """
    wanted = None if among is None else np.array(among, np.int64)
    first = 0
    with _opened(file) as parquet:
        for batch in parquet.iter_batches(batch_size=BATCH, use_threads=False):
            rows = np.arange(batch.num_rows)
            if wanted is not None:
                rows = wanted[(wanted >= first) & (wanted < first + batch.num_rows)] - first
            first += batch.num_rows
            for row in batch.take(pa.array(rows)).to_pylist():
                yield _logged(row)


def read_columns(file: Path, columns: Sequence[str]) -> pa.Table:
    """Gives some columns of all requests of a file; errors as `read_requests`."""
    with _opened(file) as parquet:
        return parquet.read(columns=list(columns), use_threads=False)


def _opened(file: Path) -> pq.ParquetFile:
    try:
        parquet = pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as exc:
        raise InputError(f"{file}: cannot be read as a file of a served log: {exc}") from exc
    version = (parquet.schema_arrow.metadata or {}).get(FORMAT_KEY)
    if version != FORMAT or parquet.schema_arrow.names != REQUESTS.names:
        parquet.close()
        raise InputError(f"{file}: is no file of requests that this version of `serve --served-log` has written")
    return parquet


def _logged(row: dict[str, Any]) -> Logged:
    shape = (len(row["num_retrieved"]), len(row["targets"]))
    return Logged(
        request_id=row["request_id"],
        bundle=row["bundle"],
        store_generation=row["store_generation"],
        index_generation=row["index_generation"],
        delta_sequence=row["delta_sequence"],
        degraded_reason=row["degraded_reason"],
        ancestors_reason=row["ancestors_reason"],
        num_behaviors=row["num_behaviors"],
        newest=row["newest"],
        targets=tuple(row["targets"]),
        num_retrieved=np.array(row["num_retrieved"], np.uint32),
        probability=np.array(row["probability"], np.float32).reshape(shape),
        request_bytes=row["request"],
        found_bytes=row["found"],
    )
