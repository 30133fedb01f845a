"""The truth of the generated data: which ads are shown to whom, and with what probability each label comes.

A behavior b before the impression speaks for candidate c by how near they stand in the ads' tree, whatever domain b
comes from, and by its age, which every target forgets at its own pace::

    match(c, t) = sum over b before t of  near(b, c) * worth(b) * exp(-(t - t_b) / memory)
    near        = 4 the ad itself or an article it covers | 1 same leaf | 0.3 same group | 0
    logit p     = base + signal * (slope * z(log(1 + match)) + effect of the user + effect of the ad)

z is standardised over all impressions; base is set so that the mean probability is the target's rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scripts.generate.users import DAYS, START_MS, STREAMS, draw_of_user
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.generate.users import Behaviors, Interests
    from scripts.generate.world import World
    from store.types import F64, I64

FIRST_REQUEST_DAY = 430
RELATED_CANDIDATES = 0.5
"""Share of candidates drawn from an interest the user has, had or will have."""
EXACT, LEAF, GROUP = 4.0, 1.0, 0.3
RECENT = 50
"""Number of newest behaviors that the short-sighted ceiling sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How one target's labels come about."""

    name: str
    rate: float
    memory_days: float
    slope: float


TARGETS = (
    Target(name="click", rate=0.10, memory_days=30.0, slope=1.1),
    Target(name="purchase", rate=0.05, memory_days=240.0, slope=1.2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Impressions:
    """Candidates shown, ordered by time, then user, then ad; R in all."""

    user: I64
    ad: I64
    timestamp_ms: I64

    def requests(self) -> tuple[I64, I64]:
        """Gives the first row of every request, and behind the last one the number of rows; and each request's user."""
        change = (np.diff(self.user) != 0) | (np.diff(self.timestamp_ms) != 0)
        first = np.concatenate(([0], np.flatnonzero(change) + 1)).astype(np.int64)
        return np.append(first, len(self.user)), self.user[first]


def draw_impressions(
    world: World,
    behaviors: Behaviors,
    interests: Interests,
    num_requests: int,
    candidates: tuple[int, int],
    draw: np.random.Generator,
) -> Impressions:
    """Draws requests of users (the active ones somewhat more often) and the ads shown in each, all different.

    Args:
        world: The ads.
        behaviors: Decide how active a user is.
        interests: Decide the related candidates.
        num_requests: How many requests.
        candidates: Least and most ads drawn per request; ads drawn twice are shown once.
        draw: Source of randomness.
    """
    activity = np.sqrt(np.diff(behaviors.offsets))
    user = draw.choice(len(activity), num_requests, p=activity / activity.sum())
    time = START_MS + (draw.uniform(FIRST_REQUEST_DAY, DAYS, num_requests) * DAY_MS).astype(np.int64)
    sizes = draw.integers(candidates[0], candidates[1] + 1, num_requests)
    row_user, row_time = np.repeat(user, sizes), np.repeat(time, sizes)
    leaf = interests.leaf[draw_of_user(interests, row_user, draw)]
    related = draw.random(len(row_user)) < RELATED_CANDIDATES
    ad = world.items["ad"].draw(np.where(related, leaf, -1), draw)
    rows = np.unique(np.stack([row_time, row_user, ad], axis=1), axis=0)
    return Impressions(user=rows[:, 1].copy(), ad=rows[:, 2].copy(), timestamp_ms=rows[:, 0].copy())


class Matcher:
    """Computes `match` of impressions; one object serves all targets and horizons. Not a mutation of its inputs."""

    def __init__(self, world: World, behaviors: Behaviors, impressions: Impressions) -> None:
        self._world, self._behaviors, self._impressions = world, behaviors, impressions
        self._num_nodes = len(world.trees["ad"].names)
        self._worth = np.array([stream[3] for stream in STREAMS])[behaviors.stream]
        # Items of all domains are numbered one domain after another.
        sizes = [len(items.leaf) for items in world.items.values()]
        self._first = dict(zip(world.items, np.cumsum([0, *sizes]).tolist(), strict=False))
        self._num_items = sum(sizes)
        self._item = behaviors.item + np.array([self._first[domain] for domain, *_ in STREAMS])[behaviors.stream]
        self._leaf, self._group = self._places("leaf"), self._places("group")
        self._exact_items = self._items_of_ads()

    def _items_of_ads(self) -> I64:
        """Gives the numbers of each ad and of the articles it covers, filled up with a number no item has."""
        sizes = np.diff(self._world.covers_offsets)
        found = np.full((len(sizes), 1 + int(sizes.max())), self._num_items, dtype=np.int64)
        found[:, 0] = self._first["ad"] + np.arange(len(sizes))
        ad = np.repeat(np.arange(len(sizes)), sizes)
        column = np.arange(len(ad)) - self._world.covers_offsets[ad] + 1
        found[ad, column] = self._first["content"] + self._world.covers
        return found

    def _places(self, kind: str) -> I64:
        """Gives the `leaf` or `group` of every behavior, one more than the last node = none."""
        of_items = np.concatenate([getattr(items, kind) for items in self._world.items.values()])
        return np.where(of_items < 0, self._num_nodes, of_items)[self._item]

    def match(self, memory_days: float, newest: int | None = None) -> F64:
        """Gives `match` of every impression; with `newest`, of that many newest behaviors before it only; (R,)."""
        shown = self._impressions
        bounds, users = shown.requests()
        result = np.empty(len(shown.user))
        starts, stops = self._behaviors.offsets[users], self._behaviors.offsets[users + 1]
        for start, stop, low, high in zip(starts, stops, bounds[:-1], bounds[1:], strict=True):
            now = shown.timestamp_ms[low]
            end = start + np.searchsorted(self._behaviors.timestamp_ms[start:stop], now)
            first = start if newest is None else max(start, end - newest)
            age_days = (now - self._behaviors.timestamp_ms[first:end]) / DAY_MS
            weight = self._worth[first:end] * np.exp(-age_days / memory_days)
            result[low:high] = self._near(slice(first, end), weight, shown.ad[low:high])
        return result

    def _near(self, rows: slice, weight: F64, ads: I64) -> F64:
        items = self._world.items["ad"]
        by_leaf = np.bincount(self._leaf[rows], weight, self._num_nodes + 1)
        by_group = np.bincount(self._group[rows], weight, self._num_nodes + 1)
        total = (LEAF - GROUP) * by_leaf[items.leaf[ads]] + GROUP * by_group[items.group[ads]]
        by_item = np.bincount(self._item[rows], weight, self._num_items + 1)
        exact: F64 = by_item[self._exact_items[ads]].sum(axis=1)
        return total + (EXACT - LEAF) * exact


def probability(target: Target, match: F64, reference: F64, effects: F64, signal: float) -> F64:
    """Gives the true probability of each impression.

    Args:
        target: Whose.
        match: Of each impression; (R,).
        reference: The full `match`, which z and base are taken from.
        effects: Of user and ad together. (R,)
        signal: 0 = every probability is the target's rate.
    """
    level = np.log1p(reference)
    mean, deviation = level.mean(), level.std()

    def logit(values: F64) -> F64:
        standardised: F64 = (np.log1p(values) - mean) / deviation
        return signal * (target.slope * standardised + effects)

    base = _root(lambda value: float(_sigmoid(value + logit(reference)).mean()) - target.rate)
    return _sigmoid(base + logit(match))


def _sigmoid(values: F64) -> F64:
    return np.asarray(1.0 / (1.0 + np.exp(-values)), dtype=np.float64)


def _root(rises: Callable[[float], float]) -> float:
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rises(middle) < 0.0 else (low, middle)
    return low
