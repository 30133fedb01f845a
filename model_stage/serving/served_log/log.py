"""The served log of one process: takes a share of what is answered, and is never in the way of an answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyarrow as pa
from prometheus_client import Counter

from model_stage.serving.aside import Aside, Sampler
from model_stage.serving.served_log.files import ServedFiles
from store.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from structlog.typing import FilteringBoundLogger

    from model_stage.serving.served_log.record import Served

SEED = 1
"""Of the sample: which requests are logged follows from their ids."""
MOST_WAITING = 1024
MOST_BYTES = 64 << 20
"""What may wait in memory for the thread that writes."""
GROUP = 64
"""Requests of a row group; fewer where they are few in `GROUP_S`."""
GROUP_S = 5.0
RETRY_S = 10.0
"""After the disk has refused: what comes meanwhile is dropped."""


class ServedLog:
    """Keeps a share of the served requests in a folder. Thread-safe; a thread of its own writes.

    Args:
        folder: Made where it is absent; other workers may write there too.
        share: Share of requests to keep, 0 to 1, chosen by their ids.
        registry: Where to count.
        log: Gets a line when the disk refuses.
        worker: Number of the worker; 0 = there are no others.

    Raises:
        InputError: The folder cannot be written.
    """

    def __init__(
        self, folder: Path, share: float, registry: CollectorRegistry, log: FilteringBoundLogger, worker: int = 0
    ) -> None:
        rows = Counter(
            "lookback_served_log_rows",
            "Rows of the served log, by what became of them.",
            ["result"],
            registry=registry,
        )
        written, self._dropped = rows.labels("written"), rows.labels("dropped")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._files = ServedFiles(folder, worker, written.inc)
        except OSError as exc:
            raise InputError(f"served-log: {folder} cannot be written: {exc.strerror}") from exc
        self._folder = folder
        self._log = log
        self._sampler = Sampler(share, SEED)
        self._group: list[Served] = []
        self._group_due_s = self._retry_at_s = 0.0
        self._aside = Aside("served-log", self._work, most=MOST_WAITING, most_bytes=MOST_BYTES)

    def takes(self, request_id: str) -> bool:
        """Says whether a request is to be offered."""
        return self._sampler.takes(request_id)

    def offer(self, served: Served) -> None:
        """Leaves a request to be written; counts it as dropped where too much waits. Never waits."""
        if not self._aside.offer(served, served.num_bytes):
            self._dropped.inc(served.num_rows)

    def close(self) -> None:
        """Writes what waits, and closes the files."""
        if not self._aside.close():
            self._log.error("served log", reason="what waited could not be written in time")

    def _work(self, records: list[Served], ended: bool) -> None:
        now_s = time.monotonic()
        if records and not self._group:
            self._group_due_s = now_s + GROUP_S
        self._group += records
        try:
            if self._group and (ended or len(self._group) >= GROUP or now_s >= self._group_due_s):
                self._write()
            if ended:
                self._files.close()
            else:
                self._files.close_if_due()
        except Exception as error:  # a full disk, or what nobody has thought of: serving goes on either way
            self._give_up(error)

    def _write(self) -> None:
        if time.monotonic() < self._retry_at_s:
            self._drop_waiting()
        while self._group:
            group, self._group = self._group[:GROUP], self._group[GROUP:]
            self._files.write(group)
            time.sleep(0)  # whoever answers a request gets the interpreter

    def _drop_waiting(self) -> int:
        dropped, self._group = sum(record.num_rows for record in self._group), []
        self._dropped.inc(dropped)
        return dropped

    def _give_up(self, error: Exception) -> None:
        # What stands in the files that were being written is lost with what was to be added to them.
        lost = self._files.abandon()
        self._dropped.inc(lost)
        lost += self._drop_waiting()
        self._retry_at_s = time.monotonic() + RETRY_S
        known = isinstance(error, OSError | pa.ArrowException)
        self._log.error("served log", folder=str(self._folder), dropped=lost, reason=str(error), exc_info=not known)
