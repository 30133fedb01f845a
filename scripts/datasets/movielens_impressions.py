"""MovieLens' impressions: the movies that a user rates next, among others that were popular by then.

The originals know no impressions. A request is up to eight ratings that a user typed one after another, as of the time
of the first, and twelve movies beside them that the user had not rated by then. What those are is drawn, a movie as
often as all users had rated it before, with the same seed every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from scripts.joins import count_before, per_100_days, runs_before

if TYPE_CHECKING:
    from store.types import F64, I64

BLOCK, OTHERS = 8, 12
LIKED = 4.0
"""Least rating of a movie that the user liked."""
SEED = 0
QUANTILES = {"train_from_ms": 0.1, "validation_from_ms": 0.7, "test_from_ms": 0.85}
"""Of the times of all ratings: where each split begins."""


def impressions_table(user: I64, movie: I64, rating: F64, time_ms: I64, category: I64, least_ratings: int) -> pa.Table:
    """Gives one row per (user, movie of a request), ordered by time, user, movie.

    Targets: `watch`, the user rated the movie within the request; `like`, with at least `LIKED`, unknown where the
    user did not rate it. The columns that come with a request are made of ratings strictly before it.

    Args:
        user: Of each rating. (N,)
        movie: Numbered from 0, as those of `category`. (N,)
        rating: (N,)
        time_ms: (N,)
        category: A number of each movie's category. (movies,)
        least_ratings: Users with fewer get no requests.
    """
    order = np.lexsort((movie, time_ms, user))
    user, movie, rating, time_ms = user[order], movie[order], rating[order], time_ms[order]
    as_of_ms = _request_times(user, time_ms)
    wanted = np.flatnonzero(np.bincount(user)[user] >= least_ratings)
    asker, asked_ms = np.unique(np.stack([user[wanted], as_of_ms[wanted]]), axis=1)
    others = _others((user, movie, time_ms, as_of_ms), asker, asked_ms, len(category))
    shown_user, shown, now_ms = (
        np.concatenate(pair) for pair in zip((user[wanted], movie[wanted], as_of_ms[wanted]), others, strict=True)
    )
    watched = np.arange(len(shown)) < len(wanted)
    liked = np.full(len(shown), np.nan, np.float32)
    liked[watched] = rating[wanted] >= LIKED
    first_ms = int(time_ms.min())
    fields = {
        "item_popularity": _rate(movie, time_ms, shown, now_ms, first_ms),
        "category_popularity": _rate(category[movie], time_ms, category[shown], now_ms, first_ms),
        "item_mean_rating": _mean(movie, time_ms, rating, shown, now_ms),
        "user_mean_rating": _mean(user, time_ms, rating, shown_user, now_ms),
    }
    rows = np.lexsort((shown, shown_user, now_ms))
    return pa.table(
        {
            "user": shown_user[rows],
            "item": shown[rows],
            "timestamp_ms": now_ms[rows],
            "label_watch": watched[rows].astype(np.int8),
            "label_like": pa.array(liked[rows], from_pandas=True),
            **{name: pa.array(values[rows].astype(np.float32), from_pandas=True) for name, values in fields.items()},
        }
    )


def splits(time_ms: I64) -> dict[str, int]:
    """Gives where the splits begin, by the times of all ratings."""
    return {name: int(np.quantile(time_ms, share, method="lower")) for name, share in QUANTILES.items()}


def _request_times(user: I64, time_ms: I64) -> I64:
    """Gives the as-of time of each rating's request; ratings are by user and time. Those of one time stay together."""
    rows = np.arange(len(user))
    new_user = np.append(True, user[1:] != user[:-1])
    new_time = new_user | np.append(True, time_ms[1:] != time_ms[:-1])
    first_of_user = np.maximum.accumulate(np.where(new_user, rows, 0))
    first_of_time = np.maximum.accumulate(np.where(new_time, rows, 0))
    block = (first_of_time - first_of_user) // BLOCK
    starts = new_user | np.append(True, block[1:] != block[:-1])
    return time_ms[np.maximum.accumulate(np.where(starts, rows, 0))]


def _others(ratings: tuple[I64, I64, I64, I64], asker: I64, now_ms: I64, num_movies: int) -> tuple[I64, I64, I64]:
    """Gives users, movies and times of the candidates beside what was rated, none twice in a request.

    Args:
        ratings: User, movie, time and time of the request of every rating. (N,) each
        asker: User of each request. (Q,)
        now_ms: Time of each. (Q,)
        num_movies: How many there are.
    """
    user, movie, time_ms, as_of_ms = ratings
    draw, by_time = np.random.default_rng(SEED), np.argsort(time_ms, kind="stable")
    earlier = np.searchsorted(time_ms[by_time], now_ms)
    at = (earlier[:, None] * draw.random((len(asker), OTHERS))).astype(np.int64)
    request = np.repeat(np.arange(len(asker)), OTHERS)
    drawn = movie[by_time[at.ravel()]]
    request, drawn = np.unique(np.stack([request, drawn])[:, earlier[request] > 0], axis=1)
    # What the user rates in this request, or has rated before it.
    known, _ = count_before(
        user * num_movies + movie, as_of_ms, asker[request] * num_movies + drawn, now_ms[request] + 1
    )
    request, drawn = request[known == 0], drawn[known == 0]
    return asker[request], drawn, now_ms[request]


def _rate(key: I64, time_ms: I64, asked: I64, now_ms: I64, first_ms: int) -> F64:
    return per_100_days(count_before(key, time_ms, asked, now_ms)[0], now_ms, first_ms)


def _mean(key: I64, time_ms: I64, rating: F64, asked: I64, now_ms: I64) -> F64:
    """Gives the mean of the ratings of a key before a time, NaN where there are none."""
    runs = runs_before(key, time_ms, asked, now_ms)
    total = np.append(0.0, np.cumsum(rating[runs.order]))
    sums = total[runs.stop] - total[runs.start]
    return np.divide(sums, runs.sizes, out=np.full(len(asked), np.nan), where=runs.sizes > 0)
