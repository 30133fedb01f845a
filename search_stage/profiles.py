"""Soft match statistics: how alike each candidate is to all that the user did in a stream, the older the less.

A profile is the sum of the attention vectors of a stream's behaviors, each weighted by 2^(-age / half-life): linear
attention over the whole history. It is made once per request, so a candidate costs one product of vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.hard.level_kernels import HistoryRows
from search_stage.profile_kernels import cosines, weigh_runs
from store.compiled import read_only

if TYPE_CHECKING:
    from search_stage.history import History
    from search_stage.index.generation import IndexGeneration
    from store.types import F32, I64


def similarities(
    index: IndexGeneration | None,
    queries: F32,
    query: I64,
    history: History,
    section_streams: I64,
    num_streams: int,
    half_life_ms: I64,
) -> F32:
    """Gives `MatchStatistics.similarity`.

    Cost: O(N P + R d P + Q S P d) for N behaviors, R runs of one vector, P half-lives, Q queries. Mutates nothing.

    Args:
        index: The index; None = all is missing.
        queries: Distinct query vectors of soft search. (Q, d)
        query: The one of each candidate. (C,)
        history: The user's history.
        section_streams: Stream of each section; -1 = it is none. (S,)
        num_streams: Streams of the store generation.
        half_life_ms: Of the profiles. (P,)
    """
    if index is None or len(half_life_ms) == 0:
        return np.full((len(query), num_streams, len(half_life_ms)), np.nan, np.float32)
    rows = HistoryRows(history.node, history.rank, history.cut, history.section_start)
    representative = read_only(index.representative)
    row, stream, weight = weigh_runs(rows, history.timestamp_ms, section_streams, representative, half_life_ms)
    vectors = read_only(index.take(row))
    similar: F32 = cosines(read_only(queries), vectors, stream, weight, num_streams)[query]
    return similar
