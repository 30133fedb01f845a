"""The policies that the report compares: what each would put into the lists, and how much of the worth that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_stage.config import HardPolicy

if TYPE_CHECKING:
    from search_stage.config import SearchConfig

QUOTA = 40
"""Of the policies that differ in how they climb."""
MIN_MATCHES = (1, 2, 5, 10, 20, 40)
SPLITS = (
    (50, 0, 0),
    (0, 50, 0),
    (0, 0, 50),
    (25, 25, 0),
    (20, 20, 10),
    (10, 30, 10),
    (30, 10, 10),
    (100, 0, 0),
    (0, 100, 0),
    (0, 0, 100),
    (50, 50, 0),
    (40, 40, 20),
    (20, 60, 20),
    (60, 20, 20),
)
"""Behaviors of hard search (in each domain), of soft search, and newest ones: at most 50, and at most 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One way to fill a list; hard search treats every domain alike."""

    name: str
    hard: HardPolicy
    soft: int
    recent: int


def policies(config: SearchConfig, num_levels: int) -> tuple[Policy, ...]:
    """Gives the policies to compare: the served default, how far to climb, when to stop, how to share the list.

    Args:
        config: What is served.
        num_levels: Levels there are, level 0 included.
    """
    served = config.hard.default
    climbs = [
        Policy(name=f"hard to level {level}", hard=_hard(QUOTA, QUOTA, level), soft=0, recent=0)
        for level in range(num_levels)
    ]
    stops = [
        Policy(name=f"hard, climbs below {count}", hard=_hard(QUOTA, count, num_levels - 1), soft=0, recent=0)
        for count in MIN_MATCHES
    ]
    splits = [
        Policy(
            name=f"{hard} hard, {soft} soft, {recent} newest",
            hard=_hard(hard, min(served.min_matches, hard), served.max_level),
            soft=soft,
            recent=recent,
        )
        for hard, soft, recent in SPLITS
    ]
    default = Policy(name="served default", hard=served, soft=config.soft.top_k, recent=config.recent.top_k)
    return (default, *climbs, *stops, *splits)


def _hard(quota: int, min_matches: int, max_level: int) -> HardPolicy:
    return HardPolicy(quota=quota, min_matches=min_matches, max_level=max_level)
