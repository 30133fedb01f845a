"""Kernels of soft match statistics; `profiles.py` says what they mean."""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from store.compiled import kernel

if TYPE_CHECKING:
    from search_stage.hard.level_kernels import HistoryRows
    from store.types import F32, F64, I64, U32

_LEAST = 1e-9
"""Of the lengths of the vectors summed: a shorter sum is rounding, and has no direction."""


@kernel
def weigh_runs(
    rows: HistoryRows, timestamp_ms: I64, section_streams: I64, representative: U32, half_life_ms: I64
) -> tuple[U32, I64, F64]:
    """Gives the runs of neighboring rows before the cut that have one vector.

    Args:
        rows: The history.
        timestamp_ms: Of each row. (N,)
        section_streams: Stream of each section; -1 = it is none, and has no runs. (S,)
        representative: `IndexGeneration.representative`. (num_nodes + 1,)
        half_life_ms: See `MatchStatistics`. (P,)

    Returns:
        Row of the attention table of each run, (R,); its stream, (R,); the sum of its weights, (R, P). The newest
        behavior of a stream weighs 1: a direction does not depend on the scale, and old streams do not vanish.
    """
    room, section_start = 0, rows.section_start
    for section in range(len(section_streams)):
        if section_streams[section] >= 0:
            room += section_start[section + 1] - section_start[section]
    row_of, stream_of = np.empty(room, np.uint32), np.empty(room, np.int64)
    weight, count = np.zeros((room, len(half_life_ms)), np.float64), 0
    for section in range(len(section_streams)):
        start, stop, first = section_start[section], section_start[section + 1], count
        if section_streams[section] < 0:
            continue
        newest_ms = _newest_ms(rows, timestamp_ms, start, stop)
        for row in range(start, stop):
            if rows.rank[row] >= rows.cut:
                continue
            vector = representative[rows.node[row]]
            if count == first or row_of[count - 1] != vector:
                row_of[count], stream_of[count] = vector, section_streams[section]
                count += 1
            for at in range(len(half_life_ms)):
                age = (newest_ms - timestamp_ms[row]) / half_life_ms[at] if half_life_ms[at] > 0 else 0.0
                weight[count - 1, at] += math.exp(-math.log(2.0) * age)
    return row_of[:count], stream_of[:count], weight[:count]


@kernel
def _newest_ms(rows: HistoryRows, timestamp_ms: I64, start: int, stop: int) -> np.int64:
    newest = np.int64(np.iinfo(np.int64).min)
    for row in range(start, stop):
        if rows.rank[row] < rows.cut:
            newest = max(newest, timestamp_ms[row])
    return newest


@kernel
def cosines(queries: F32, vectors: F32, stream_of: I64, weight: F64, num_streams: int) -> F32:
    """Gives the cosine of each query and each profile, summed in the order of the runs; NaN = one has no direction.

    Args:
        queries: (Q, d)
        vectors: Of the runs. (R, d)
        stream_of: Of the runs. (R,)
        weight: Of the runs. (R, P)
        num_streams: S.

    Returns:
        (Q, S, P)
    """
    num_profiles, dim = weight.shape[1], queries.shape[1]
    profile = np.zeros((num_streams, num_profiles, dim), np.float64)
    mass = np.zeros((num_streams, num_profiles), np.float64)
    for run in range(len(vectors)):
        norm = _norm(vectors[run])
        for at in range(num_profiles):
            mass[stream_of[run], at] += weight[run, at] * norm
            for place in range(dim):
                profile[stream_of[run], at, place] += weight[run, at] * vectors[run, place]
    out = np.full((len(queries), num_streams, num_profiles), np.nan, np.float32)
    for stream in range(num_streams):
        for at in range(num_profiles):
            length = _norm(profile[stream, at])
            if length > _LEAST * mass[stream, at]:
                for query in range(len(queries)):
                    norm, product = _norm(queries[query]), 0.0
                    for place in range(dim):
                        product += queries[query, place] * profile[stream, at, place]
                    if norm > 0:
                        out[query, stream, at] = product / (norm * length)
    return out


@kernel
def _norm(vector: F32 | F64) -> float:
    total = 0.0
    for place in range(len(vector)):
        total += np.float64(vector[place]) * np.float64(vector[place])
    return math.sqrt(total)
