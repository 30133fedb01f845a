"""Users of the generated data: interests that come and go over two years, and the behaviors that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.types import DAY_MS

if TYPE_CHECKING:
    from scripts.generate.world import World
    from store.types import F64, I64

START_MS = 1_672_531_200_000
"""2023-01-01 UTC: day 0."""
DAYS = 720
MIN_BEHAVIORS, MAX_BEHAVIORS = 10, 20_000
SPREAD = 1.5
"""Standard deviation of the logarithm of a user's number of behaviors: a heavy tail."""
UNRELATED = 0.3
"""Share of behaviors that follow from no interest."""

STREAMS = (
    # domain, action, share of all behaviors, what one is worth in the true probability
    ("content", "view", 0.58, 1.0),
    ("content", "like", 0.10, 2.0),
    ("content", "buy", 0.06, 3.0),
    ("ad", "view", 0.10, 1.0),
    ("ad", "click", 0.03, 2.0),
    ("live", "watch", 0.11, 1.0),
    ("live", "gift", 0.02, 2.0),
)
DOMAINS = ("content", "ad", "live")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interests:
    """Leaves of the ads' tree that users care for, ordered by user; I in all."""

    user: I64
    leaf: I64
    weight: F64
    from_day: F64
    to_day: F64
    offsets: I64
    """First interest of each user. (users + 1,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviors:
    """All behaviors, ordered by user and then time; N in all."""

    user: I64
    stream: I64
    """Position in `STREAMS`. (N,)"""
    item: I64
    """Position among the items of the stream's domain. (N,)"""
    timestamp_ms: I64
    offsets: I64
    """First behavior of each user. (users + 1,)"""


def draw_counts(num_users: int, mean_behaviors: int, draw: np.random.Generator) -> I64:
    """Gives how many behaviors each user has; the first two users have the least and the most there may be."""
    size = draw.lognormal(np.log(mean_behaviors) - SPREAD**2 / 2.0, SPREAD, num_users)
    counts = np.clip(size, MIN_BEHAVIORS, MAX_BEHAVIORS).astype(np.int64)
    counts[:2] = (MIN_BEHAVIORS, MAX_BEHAVIORS)[: len(counts)]
    return counts


def draw_interests(world: World, counts: I64, draw: np.random.Generator) -> Interests:
    """Draws each user's interests: the more behaviors, the more of them; popular leaves more often."""
    per_user = np.clip(4.0 + np.sqrt(counts) / 2.0, 4, 60).astype(np.int64)
    user = np.repeat(np.arange(len(counts)), per_user)
    leaves = draw.permutation(world.trees["ad"].leaves())
    popularity = 1.0 / np.arange(3, len(leaves) + 3) ** 0.5
    begin = draw.uniform(-60.0, DAYS, len(user))
    length = draw.lognormal(np.log(60.0), 0.8, len(user))
    return Interests(
        user=user,
        leaf=draw.choice(leaves, len(user), p=popularity / popularity.sum()),
        weight=draw.gamma(1.0, 1.0, len(user)) + 0.05,
        from_day=np.clip(begin, 0.0, DAYS - 2.0),
        to_day=np.clip(begin + length, 1.0, DAYS),
        offsets=np.concatenate(([0], np.cumsum(per_user))),
    )


def draw_of_user(interests: Interests, user: I64, draw: np.random.Generator) -> I64:
    """Gives a random interest (by weight) of each user."""
    total = np.concatenate(([0.0], np.cumsum(interests.weight)))
    low, high = total[interests.offsets[user]], total[interests.offsets[user + 1]]
    found = np.searchsorted(total, low + (high - low) * draw.random(len(user)), side="right") - 1
    return np.clip(found, interests.offsets[user], interests.offsets[user + 1] - 1)


def draw_behaviors(world: World, interests: Interests, counts: I64, draw: np.random.Generator) -> Behaviors:
    """Draws every user's behaviors."""
    user = np.repeat(np.arange(len(counts)), counts)
    interest = draw_of_user(interests, user, draw)
    unrelated = draw.random(len(user)) < UNRELATED
    share = np.array([stream[2] for stream in STREAMS])
    stream = draw.choice(len(STREAMS), len(user), p=share / share.sum())
    first, last = interests.from_day[interest], interests.to_day[interest]
    day = np.where(unrelated, 0.0, first) + draw.random(len(user)) * np.where(unrelated, DAYS, last - first)
    leaf = np.where(unrelated, -1, interests.leaf[interest])
    item = np.empty(len(user), dtype=np.int64)
    for domain in DOMAINS:
        rows = np.flatnonzero(np.array([name == domain for name, *_ in STREAMS])[stream])
        item[rows] = world.items[domain].draw(leaf[rows], draw)
    time = START_MS + (day * DAY_MS).astype(np.int64)
    order = np.lexsort((time, user))
    return Behaviors(
        user=user,
        stream=stream[order],
        item=item[order],
        timestamp_ms=time[order],
        offsets=np.concatenate(([0], np.cumsum(counts))),
    )
