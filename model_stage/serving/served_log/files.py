r"""The files of a served log: written aside, whole once they have their names.

A folder that several workers write, each its own files::

    LOG/
      requests-20261130-221903-412-w1-7f3a09c2.parquet       a row a request
      impressions-20261130-221903-412-w1-7f3a09c2.parquet    a row a candidate of the same requests
      .requests-20261130-222403-801-w1-51d07be4.part         still being written; nobody reads it
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from model_stage.serving.served_log.tables import REQUESTS, impression_columns, impressions_schema, request_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pyarrow as pa

    from model_stage.serving.served_log.record import Served

LARGEST_BYTES = 128 << 20
LONGEST_S = 300.0
"""A pair of files is closed when it has that many bytes or is that old: a killed process loses no more."""
_FORGOTTEN_S = 3600.0
"""A part that old is of a process that was killed."""


class ServedFiles:
    """Writes the pairs of files of one worker, one pair after another; for one thread.

    Args:
        folder: Of the log; it must exist.
        worker: Number of the worker; 0 = there are no others.
        on_safe: Called with the number of impressions of each pair, once it is on the disk under its name.
        largest_bytes: See `LARGEST_BYTES`.
        longest_s: See `LONGEST_S`.
    """

    def __init__(
        self,
        folder: Path,
        worker: int,
        on_safe: Callable[[int], object],
        *,
        largest_bytes: int = LARGEST_BYTES,
        longest_s: float = LONGEST_S,
    ) -> None:
        self._folder = folder
        self._worker = worker
        self._on_safe = on_safe
        self._largest_bytes = largest_bytes
        self._longest_s = longest_s
        self._pair: _Pair | None = None
        self._unsafe_rows = 0
        """Impressions that `write` got and that are not safe yet."""
        remove_forgotten(folder)

    def write(self, records: Sequence[Served]) -> None:
        """Writes requests, as a row group of each file.

        Raises:
            OSError: The disk is full or the folder gone; call `abandon`.
        """
        self._unsafe_rows += sum(record.num_rows for record in records)
        for schema, same in groupby(records, key=lambda record: impressions_schema(record.bundle)):
            if self._pair is not None and self._pair.schema != schema:
                self.close()
            if self._pair is None:
                self._pair = _Pair(self._folder, self._worker, schema)
            self._pair.write(list(same))
        self.close_if_due()

    def close_if_due(self) -> None:
        """Closes the pair if it is large or old enough; errors as `write`."""
        pair = self._pair
        if pair is not None and (pair.num_bytes >= self._largest_bytes or pair.age_s >= self._longest_s):
            self.close()

    def close(self) -> None:
        """Closes the pair that is being written, if there is one; errors as `write`."""
        if self._pair is not None:
            self._pair.close()
            rows, self._pair = self._pair.num_rows, None
            self._unsafe_rows -= rows
            self._on_safe(rows)

    def abandon(self) -> int:
        """Gives up the pair that is being written; gives the number of impressions that are lost."""
        if self._pair is not None:
            self._pair.abandon()
            self._pair = None
        lost, self._unsafe_rows = self._unsafe_rows, 0
        return lost


class _Pair:
    def __init__(self, folder: Path, worker: int, schema: pa.Schema) -> None:
        self.schema = schema
        """Of the impressions."""
        self.num_rows = 0
        self._opened_s = time.monotonic()
        now_ms = time.time_ns() // 1_000_000
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_ms / 1000))
        name = f"{stamp}-{now_ms % 1000:03}-w{worker}-{secrets.token_hex(4)}"
        self._final = [folder / f"{kind}-{name}.parquet" for kind in ("requests", "impressions")]
        self._parts = [path.with_name(f".{path.stem}.part") for path in self._final]
        self._writers: list[pq.ParquetWriter] = []
        try:
            for part, columns in zip(self._parts, (REQUESTS, schema), strict=True):
                self._writers.append(pq.ParquetWriter(part, columns, compression="zstd"))
        except OSError:
            self.abandon()
            raise

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._opened_s

    @property
    def num_bytes(self) -> int:
        return sum(part.stat().st_size for part in self._parts)

    def write(self, records: Sequence[Served]) -> None:
        self.num_rows += sum(record.num_rows for record in records)
        for writer, table in zip(self._writers, (request_columns(records), impression_columns(records)), strict=True):
            writer.write_table(table)

    def close(self) -> None:
        """Closes, syncs and names both; the requests first, so that no impressions are there without them."""
        for writer, part in zip(self._writers, self._parts, strict=True):
            writer.close()
            descriptor = os.open(part, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        for part, final in zip(self._parts, self._final, strict=True):
            part.rename(final)

    def abandon(self) -> None:
        for writer in self._writers:
            with suppress(OSError):  # on a full disk this fails too
                writer.close()
        for path in (*self._parts, *self._final):
            path.unlink(missing_ok=True)


def remove_forgotten(folder: Path) -> None:
    """Removes the parts that killed processes have left."""
    for part in folder.glob(".*.part"):
        try:
            if time.time() - part.stat().st_mtime > _FORGOTTEN_S:
                part.unlink()
        except FileNotFoundError:
            continue  # another worker was faster
