"""Requests of a served log that a new bundle or a new index has to answer before it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_stage.serving import convert
from model_stage.serving.served_log.reader import read_columns, read_requests, request_files
from serving.wire import search as wire
from serving.wire.recorded import RECORDED, read_recorded
from store.errors import InputError, translate_os_errors

if TYPE_CHECKING:
    from pathlib import Path

    from model_stage.types import RankRequest
    from store.retrieval import SearchResult


def write_warm_requests(log: Path, to: Path, count: int) -> int:
    """Writes some of the requests of a log that were answered with history, spread over it evenly, to a file.

    Args:
        log: Folder of a served log, or one of its files.
        to: File to write.
        count: Requests to take; fewer where there are fewer.

    Returns:
        Number of requests written.

    Raises:
        InputError: The log has none.
    """
    rows = []
    for file in request_files(log):
        degraded = read_columns(file, ["degraded_reason"])["degraded_reason"].to_pylist()
        rows += [(file, at) for at, reason in enumerate(degraded) if not reason]
    if not rows:
        raise InputError(f"{log}: has no request that was answered with history")
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)).tolist()
    recorded = []
    for file in dict.fromkeys(rows[at][0] for at in chosen):
        for logged in read_requests(file, among=[rows[at][1] for at in chosen if rows[at][0] == file]):
            fields = tuple(logged.found.behavior_fields)
            query = logged.request.query(newest=logged.newest, behavior_fields=fields)
            search = wire.request_to_proto(query).SerializeToString()
            recorded.append({"request": logged.request_bytes, "search": search, "found": logged.found_bytes})
    part = to.with_name(f".{to.name}.part")
    with translate_os_errors(f"{to}: cannot be written"):
        pq.write_table(pa.Table.from_pylist(recorded, schema=RECORDED), part, compression="zstd")
        part.rename(to)  # a server that starts meanwhile reads the old one
    return len(recorded)


def read_warm_requests(file: Path) -> list[tuple[RankRequest, SearchResult]]:
    """Gives the requests of a file that `write_warm_requests` has written, with what was retrieved for each.

    Raises:
        InputError: It is no such file.
    """
    out = []
    for request_bytes, found_bytes in read_recorded(file, ["request", "found"]):
        request = convert.request_from_bytes(request_bytes)
        out.append((request, wire.result_from_bytes(found_bytes, len(request.candidates))))
    return out
