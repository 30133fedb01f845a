"""Files of recorded requests: real ones, which a new bundle or index has to answer before it serves.

Parquet, a row a request: `request` a `lookback.ranking.v1.RankRequest`, `search` the `lookback.search.v1.SearchRequest`
made of it, `found` the `SearchResponse` it got. Each stage reads its own columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from protos.lookback.search.v1 import search_pb2 as pb
from serving.wire.search import request_from_proto
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from store.retrieval import SearchRequest

RECORDED = pa.schema([("request", pa.binary()), ("search", pa.binary()), ("found", pa.binary())])


def read_recorded(file: Path, columns: Sequence[str]) -> list[tuple[bytes, ...]]:
    """Gives some columns of a file of recorded requests, a tuple a row.

    Raises:
        InputError: It is no such file.
    """
    try:
        table = pq.read_table(file, columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as exc:
        raise InputError(
            f"warm-requests: {file} cannot be read ({exc}); `lookback-model warm-requests` makes it"
        ) from exc
    if table.schema.names != list(columns) or any(kind != pa.binary() for kind in table.schema.types):
        raise InputError(f"warm-requests: {file} holds no recorded requests; `lookback-model warm-requests` makes it")
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def read_recorded_searches(file: Path) -> list[SearchRequest]:
    """Gives the searches of a file of recorded requests.

    Raises:
        InputError: As `read_recorded`, or a row is no request.
    """
    return [request_from_proto(pb.SearchRequest.FromString(data)) for (data,) in read_recorded(file, ["search"])]
