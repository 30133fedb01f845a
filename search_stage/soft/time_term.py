"""Soft search with a time term: behaviors of some ages get something added to their score before the best are chosen.

What is added is the same for all behaviors of one age band, and a band is a range of the user's time order. So each
band is searched as if it were the whole history, and the best of all bands are put together: whatever searches exactly
by score searches exactly by score and time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.ragged import position_in_group
from search_stage.soft.base import Keys, score_pairs, soft_search
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_stage.config import AgeBonus
    from search_stage.history import History
    from search_stage.index.generation import IndexGeneration
    from search_stage.soft.base import KeySearch
    from store.types import F32, I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Behaviors of about the same age: positions `[first, end)` of the time order."""

    first: int
    end: int
    add: float
    """To the score."""


def bands_of(history: History, bonuses: Sequence[AgeBonus], as_of_ms: int) -> list[Band]:
    """Gives the bands of a history, the newest first; what is older than all ages gets nothing added."""
    bands, end = [], history.cut
    for bonus in bonuses:
        first = min(history.rank_at(as_of_ms - int(bonus.max_age_days * DAY_MS)), end)
        bands.append(Band(first=first, end=end, add=bonus.add))
        end = first
    bands.append(Band(first=0, end=end, add=0.0))
    return [band for band in bands if band.first < band.end]


def search_bands(
    search: KeySearch, queries: F32, index: IndexGeneration, history: History, bands: Sequence[Band], top_k: int
) -> tuple[I64, I64]:
    """Gives the best behaviors of each query by (score and what is added, score, newest first); see `soft.soft_search`.

    Args:
        search: How to search.
        queries: (Q, d)
        index: Whose vectors are searched.
        history: The user's history.
        bands: See `bands_of`.
        top_k: Behaviors per query, at least 1.
    """
    ranks, owners, adds = [], [], []
    for band in bands:
        window = (band.first, band.end)
        keys = Keys.of(history, index.representative, window)
        start, rank = soft_search(search, queries, keys, history, top_k, window)
        ranks.append(rank)
        owners.append(np.repeat(np.arange(len(queries)), np.diff(start)))
        adds.append(np.full(len(rank), band.add, np.float32))
    rank, query = np.concatenate([np.empty(0, np.int64), *ranks]), np.concatenate([np.empty(0, np.int64), *owners])
    vectors = index.take(index.representative[history.node[history.order[rank]]])
    score = score_pairs(queries[query], vectors)
    total = score + np.concatenate([np.empty(0, np.float32), *adds])
    best_first = np.lexsort((-rank, -score, -total, query))
    kept = best_first[position_in_group(query[best_first]) < top_k]
    kept = kept[np.lexsort((rank[kept], query[kept]))]
    return np.searchsorted(query[kept], np.arange(len(queries) + 1)), rank[kept]
