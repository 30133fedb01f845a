"""Match statistics in messages of `lookback.search.v1`, both ways."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.wire.columns import decode_column, decode_field, put_columns, put_field
from store.errors import InputError
from store.retrieval import MatchStatistics

if TYPE_CHECKING:
    from protos.lookback.search.v1 import search_pb2 as pb

_MATCHES: dict[str, type[np.generic]]
_MATCHES = {"count": np.int32, "age_ms": np.int64, "oldest_age_ms": np.int64, "within": np.int32}
"""What is said of matches: of those of each candidate, level and stream, and as `total_...` of each stream."""
_COLUMNS = ("within_ms", *_MATCHES, *(f"total_{name}" for name in _MATCHES), "half_life_ms")


def put_statistics(message: pb.MatchStatistics, statistics: MatchStatistics) -> None:
    """Writes match statistics into their message."""
    for domain, action in statistics.streams:
        message.streams.add(domain=domain, action=action)
    message.num_levels = statistics.count.shape[1]
    put_columns(message, statistics, _COLUMNS)
    if len(statistics.half_life_ms):
        message.similarity.name = "similarity"
        put_field(message.similarity, statistics.similarity.ravel())


def statistics_from_proto(message: pb.MatchStatistics, num_candidates: int) -> MatchStatistics:
    """Gives the match statistics a message holds.

    Raises:
        InputError: The message breaks the contract; names the field.
    """
    streams = tuple((stream.domain, stream.action) for stream in message.streams)
    within_ms = decode_column("statistics.within_ms", message.within_ms, np.int64)
    if np.any(within_ms[1:] <= within_ms[:-1]):
        raise InputError(f"statistics.within_ms: must ascend, is {within_ms.tolist()}")
    half_life_ms = decode_column("statistics.half_life_ms", message.half_life_ms, np.int64)
    shape = (num_candidates, message.num_levels, len(streams))
    columns: dict[str, Any] = {}
    for prefix, of_each in (("", shape), ("total_", shape[2:])):
        for kind, dtype in _MATCHES.items():
            of_kind = (*of_each, len(within_ms)) if kind == "within" else of_each
            column = decode_column(f"statistics.{prefix}{kind}", getattr(message, prefix + kind), dtype, prod(of_kind))
            columns[prefix + kind] = column.reshape(of_kind)
    profiles = (num_candidates, len(streams), len(half_life_ms))
    similarity: Any = np.frombuffer(b"", np.float32)
    if len(half_life_ms):
        similarity = decode_field("statistics.similarity", message.similarity, prod(profiles))
        if not isinstance(similarity, np.ndarray) or similarity.dtype != np.float32:
            raise InputError("statistics.similarity: must be numbers")
    return MatchStatistics(
        streams=streams,
        within_ms=within_ms,
        half_life_ms=half_life_ms,
        similarity=similarity.reshape(profiles),
        **columns,
    )
