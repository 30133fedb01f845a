"""Who comes, and with what: users by popularity, some of them again, and how many candidates each request has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from store.behavior_store import BehaviorStore
    from store.types import I64, U64

RECENT_VISITORS = 200
"""Visits back from which one who comes again is taken."""
MOST_USERS = 20_000
"""Whose histories' lengths are read, at most; drawn at random."""
LENGTH_BOUNDS = (1, 100, 1_000, 10_000, 100_000)
"""Users stand in one class from each of these lengths to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Whom and what requests may be about."""

    users: U64
    """In the order of popularity. (U,)"""
    lengths: I64
    """Behaviors of each. (U,)"""
    ads: U64
    """In the order of popularity. (A,)"""
    as_of_ms: int
    """Just after the newest behavior, milliseconds UTC."""


def read_population(store: BehaviorStore, lengths: str, draw: np.random.Generator) -> Population:
    """Reads ids from a store. Ads are those that cover products; where there are none, all items.

    Args:
        store: What search serves, or a copy of it.
        lengths: `natural` = every user as likely as any; `even` = every class of `LENGTH_BOUNDS` as likely as any, so
            that the few long histories come as often as the many short ones.
        draw: Of which users, and of who is popular.

    Raises:
        InputError: The store has no user or no item.
    """
    with store.snapshot() as snapshot:
        users = draw.permutation(np.fromiter(snapshot.user_ids(), np.uint64))[:MOST_USERS]
        counts = np.array([snapshot.user(user).columns.num_behaviors for user in users.tolist()], np.int64)
        covering, known = snapshot.covers.ids, snapshot.taxonomy.item_ids
        ads = draw.permutation(np.array(covering if len(covering) else known, np.uint64))
        newest_ms = snapshot.meta.last_ms
    if not len(users) or not len(ads):
        raise InputError(f"--store: {store.root} has {len(users)} users and {len(ads)} items; both are needed")
    if lengths == "even":
        kept = _evenly(np.searchsorted(LENGTH_BOUNDS, counts, side="right"), len(users), draw)
        users, counts = users[kept], counts[kept]
    return Population(users=users, lengths=counts, ads=ads, as_of_ms=newest_ms + 1)


def _evenly(classes: I64, size: int, draw: np.random.Generator) -> I64:
    """Gives rows in an order in which the classes that there are take turns; of a small class rows come again."""
    members = [draw.permutation(np.flatnonzero(classes == each)) for each in np.unique(classes)]
    turns = -(-size // len(members))
    return np.stack([np.resize(each, turns) for each in members], axis=1).ravel()[:size]


def zipf(size: int, exponent: float) -> Callable[[int, np.random.Generator], I64]:
    """Gives what draws ranks 0 .. size - 1 of which rank k has the weight (k + 1) ** -exponent; 0 = all alike."""
    cumulative = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -exponent)

    def draw_ranks(count: int, draw: np.random.Generator) -> I64:
        ranks: I64 = np.searchsorted(cumulative, draw.random(count) * cumulative[-1], side="right")
        return np.minimum(ranks, size - 1)

    return draw_ranks


def visits(count: int, num_users: int, exponent: float, repeat: float, draw: np.random.Generator) -> I64:
    """Draws who comes, visit by visit.

    Args:
        count: Visits N.
        num_users: Users, in the order of popularity.
        exponent: Of Zipf's law.
        repeat: Share of the visits by one of the last `RECENT_VISITORS`, as somebody who loads page after page.
        draw: Randomness.

    Returns:
        Positions of users. (N,)
    """
    users = zipf(num_users, exponent)(count, draw)
    again = np.flatnonzero(draw.random(count) < repeat)
    back = draw.integers(1, RECENT_VISITORS + 1, len(again))
    for at, before in zip(again.tolist(), back.tolist(), strict=True):  # in order: who came again may come again
        if at:
            users[at] = users[at - min(before, at)]
    return users


def weighted(weights: Collection[float], count: int, draw: np.random.Generator) -> I64:
    """Draws positions of weights, each as often as the weight says; (count,)."""
    return draw.choice(len(weights), count, p=np.array(list(weights)) / sum(weights))


def parse_weights(option: str, text: str) -> dict[str, float]:
    """Reads `NAME=WEIGHT,NAME=WEIGHT`, or `NAME` alone for one that is all.

    Raises:
        InputError: The text is none; names the option.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, given, weight = part.partition("=")
        try:
            found[name.strip()] = float(weight) if given else 1.0
        except ValueError:
            found[name.strip()] = -1.0
    if not all(name and 0 < weight < float("inf") for name, weight in found.items()):
        raise InputError(f"{option}: {text!r} is no list of NAME=WEIGHT with positive weights, as rank=9,explain=1")
    return found
