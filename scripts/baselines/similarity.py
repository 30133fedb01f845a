"""Three cosines: the user's profile against what the candidate covers, in a space of things had by the same users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from scripts.item_vectors import space_of
from scripts.joins import runs_before
from store.types import DAY_MS

if TYPE_CHECKING:
    from scripts.baselines.data import Dataset, Events
    from scripts.joins import Runs
    from store.types import F32, I64

HALF_LIVES_DAYS = (None, 30, 90)
"""Of the events of a profile; None = all count alike."""
NAMES = ("cosine", "cosine_30", "cosine_90")
DIM = 64
REFIT_DAYS = 30
"""The space is fitted anew so often, on what came before: the impressions of a period never see their own events."""
NEVER_MS = 2**62


def cosines(data: Dataset) -> F32:
    """Gives the cosines of every impression, columns as in `NAMES`; 0 where profile or candidate is unknown.

    The space is the truncated singular value decomposition of the matrix users x items, log(1 + interests) times the
    items' inverse document frequency. A profile is the same sum over a user's interests, all of them or decayed; a
    candidate is the mean of the items it covers, weighted by their interests.

    Returns:
        (R, 3)
    """
    when, first_ms = data.shown.timestamp_ms, int(data.interests.timestamp_ms.min(initial=NEVER_MS))
    period = (when - first_ms) // (REFIT_DAYS * DAY_MS)
    result = np.zeros((len(when), len(NAMES)), np.float32)
    for number in np.unique(period[period > 0]).tolist():
        rows = np.flatnonzero(period == number)
        result[rows] = _cosines_of(data, rows, first_ms + number * REFIT_DAYS * DAY_MS)
    return result


def _cosines_of(data: Dataset, rows: I64, until_ms: int) -> F32:
    """Gives the cosines of some impressions in the space of what came before a time. (N, 3)."""
    interests, shown = data.interests, data.shown
    vectors, idf, popularity = _space(interests, until_ms, data.num_items)
    ads, ad = np.unique(shown.item[rows], return_inverse=True)
    covers = csr_matrix((popularity[data.cover_item], (data.cover_ad, data.cover_item)), (data.num_items,) * 2)[ads]
    candidates = _unit(covers @ vectors)
    times, at = np.unique(shown.timestamp_ms[rows], return_inverse=True)
    asked, request = np.unique(shown.user[rows] * len(times) + at, return_inverse=True)
    when = times[asked % len(times)]
    runs = runs_before(interests.user, interests.timestamp_ms, asked // len(times), when)
    weights = vectors * idf[:, None]
    profiles = [_unit(_profiles(runs, interests, when, weights, days)) for days in HALF_LIVES_DAYS]
    return np.stack([np.einsum("nd,nd->n", profile[request], candidates[ad]) for profile in profiles], axis=1)


def _space(interests: Events, until_ms: int, num_items: int) -> tuple[F32, F32, F32]:
    """Gives the items' vectors (items, dim), inverse document frequencies and numbers of interests, (items,) both.

    All are 0 for an item that nobody had before `until_ms`.
    """
    known = interests.timestamp_ms < until_ms
    # Only what was there by then has a row and a column: what comes later changes no bit.
    space = space_of(interests.user[known], interests.item[known], DIM, rounds=5)
    vectors = np.zeros((num_items, DIM), np.float32)
    idf, popularity = np.zeros(num_items, np.float32), np.zeros(num_items, np.float32)
    vectors[space.items], idf[space.items], popularity[space.items] = space.vectors, space.idf, space.often
    return vectors, idf, popularity


def _profiles(runs: Runs, interests: Events, when: I64, weights: F32, half_life_days: int | None) -> F32:
    """Gives the sum of `weights` times log(1 + interests) of each request's user strictly before it. (Q, dim)."""
    profiles = np.empty((len(when), weights.shape[1]), np.float32)
    for requests in runs.chunks():
        request, row = runs.pairs(requests)
        worth = np.ones(len(row), np.float32)
        if half_life_days is not None:
            worth = np.exp2((interests.timestamp_ms[row] - when[request]) / (DAY_MS * half_life_days), dtype=np.float32)
        shape = (requests.stop - requests.start, len(weights))
        had = csr_matrix((worth, (request - requests.start, interests.item[row])), shape)
        profiles[requests] = had.log1p() @ weights
    return profiles


def _unit(vectors: F32) -> F32:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
