"""What the named worlds add to the truth: a mechanism each that no count of behaviors shows, and no age.

Every behavior has two signs, `tone` and `pace`, +1 or -1, drawn by themselves: they follow from nothing. A mechanism is
a weighted sum of signs over some behaviors b before the impression, divided by its standard deviation::

    m(c, t) = sum of w(b) * sign(b) / sqrt(sum of w(b)^2),  0 where there is no such behavior

So whatever the number and the times of the behaviors, its mean is 0: a scorer that knows these alone learns nothing.

    needle      click     tone of the newest 20 of the same leaf that are older than the newest 50 of all
                purchase  the same of the same style, which the taxonomy knows nothing of
    objectives  click     tone of the newest 40 of the same leaf, w = exp(-age / 20 days)
                purchase  pace of them, w = tanh((age - 60 days) / 20 days): old ones speak for, new ones against
    pairs       both      (m of tone of the newest 20 of the same leaf) * (the same of the leaf's hidden partner)
    order       both      sign(b) = tone of b times tone of the one before it, of the newest 20 of the same leaf
    late        both      tone of the newest 20 of the same leaf, w = exp(-age / 20 days); some are not there yet
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scripts.generate.users import STREAMS
from scripts.joins import Runs, runs_before
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.generate.truth import Impressions
    from scripts.generate.users import Behaviors
    from scripts.generate.world import World
    from store.types import F64, I64

    Weigh = Callable[[F64], F64]
    """Of the age in days."""

TAXONOMY = "taxonomy"
"""The world without a mechanism of its own: what matters is how much is near in the tree, and when it was."""
NEEDLE, OBJECTIVES, PAIRS, ORDER, LATE = "needle", "objectives", "pairs", "order", "late"
WORLDS = (TAXONOMY, NEEDLE, OBJECTIVES, PAIRS, ORDER, LATE)
STYLES = 24
COEFFICIENT = 1.5
"""What one standard deviation of a mechanism adds to the logit."""
NEWEST = 20
OVERLOOKED = 50
"""Newest behaviors of a user that the needle is older than."""
DELAYED, DELAY_DAYS = 0.5, 180.0
"""Share of behaviors that arrive late, and by how much on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What behaviors and items carry besides their place in the tree."""

    tone: I64
    """+1 or -1. (N,)"""
    pace: I64
    """+1 or -1. (N,)"""
    arrived_ms: I64
    """When the behavior became known: at once, or late. (N,)"""
    style: dict[str, I64]
    """Of each domain's items, by domain; -1 = none (streams of the live domain). (items,)"""
    partner: I64
    """Of each node of the ads' tree that is a leaf: its hidden partner, another leaf. (nodes,)"""


def draw_marks(world: World, timestamp_ms: I64, draw: np.random.Generator) -> Marks:
    """Draws the signs and arrivals of behaviors, the styles of items and the partners of leaves."""
    num = len(timestamp_ms)
    tone, pace = (2 * draw.integers(0, 2, num) - 1 for _ in range(2))
    delay_days = draw.exponential(DELAY_DAYS, num) * (draw.random(num) < DELAYED)
    style = {domain: draw.integers(0, STYLES, len(items.leaf)) for domain, items in world.items.items()}
    style["live"] = np.full(len(style["live"]), -1)
    leaves, partner = world.trees["ad"].leaves(), np.arange(len(world.trees["ad"].names))
    # A ring of all leaves: nobody is its own partner.
    ring = draw.permutation(leaves)
    partner[ring] = np.roll(ring, 1)
    arrived_ms = timestamp_ms + (delay_days * DAY_MS).astype(np.int64)
    return Marks(tone=tone, pace=pace, arrived_ms=arrived_ms, style=style, partner=partner)


class Mechanisms:
    """Computes the mechanism of each target of one named world. Not a mutation of its inputs."""

    def __init__(self, world: World, behaviors: Behaviors, shown: Impressions, marks: Marks) -> None:
        self._behaviors, self._shown, self._marks = behaviors, shown, marks
        domains = np.array([domain for domain, *_ in STREAMS])[behaviors.stream]
        self._leaf, self._style = np.empty((2, len(domains)), dtype=np.int64)
        for domain, items in world.items.items():
            rows = domains == domain
            self._leaf[rows] = items.leaf[behaviors.item[rows]]
            self._style[rows] = marks.style[domain][behaviors.item[rows]]
        self._ad_leaf, self._ad_style = world.items["ad"].leaf[shown.ad], marks.style["ad"][shown.ad]

    def of(self, name: str) -> dict[str, F64]:
        """Gives `m` of every impression by target; (R,) each.

        Args:
            name: One of `WORLDS` but `taxonomy`.
        """
        tone = self._marks.tone
        if name == NEEDLE:
            return {target: self._sum(runs, tone) for target, runs in self.needles().items()}
        if name == OBJECTIVES:
            runs = self._alike(self._leaf, self._ad_leaf, 2 * NEWEST, self._shown.timestamp_ms)
            return {"click": self._sum(runs, tone, _fading), "purchase": self._sum(runs, self._marks.pace, _turning)}
        near = self._alike(self._leaf, self._ad_leaf, NEWEST, self._shown.timestamp_ms)
        if name == PAIRS:
            partner = self._alike(self._leaf, self._marks.partner[self._ad_leaf], NEWEST, self._shown.timestamp_ms)
            both = self._sum(near, tone) * self._sum(partner, tone)
        else:
            both = self._in_order(near) if name == ORDER else self._sum(near, tone, _fading)
        return {"click": both, "purchase": both}

    def needles(self) -> dict[str, Runs]:
        """Gives the behaviors that the mechanism of `needle` sums over, per impression, by target."""
        old = self._older_than_newest(OVERLOOKED)
        return {
            "click": self._alike(self._leaf, self._ad_leaf, NEWEST, old),
            "purchase": self._alike(self._style, self._ad_style, NEWEST, old),
        }

    def known(self, name: str) -> dict[str, F64] | None:
        """Gives the part of `m` that had arrived by the impression, its mean given that; None = nothing arrives late.

        Args:
            name: One of `WORLDS` but `taxonomy`.
        """
        if name != LATE:
            return None
        runs = self._alike(self._leaf, self._ad_leaf, NEWEST, self._shown.timestamp_ms)
        question, row = runs.pairs(slice(0, len(runs.start)))
        now = self._shown.timestamp_ms[question]
        weight = _fading((now - self._behaviors.timestamp_ms[row]) / DAY_MS)
        arrived = self._marks.arrived_ms[row] < now
        known = _standardised(question, weight, self._marks.tone[row] * arrived, len(runs.start))
        return {"click": known, "purchase": known}

    def _alike(self, of_behaviors: I64, of_ads: I64, newest: int, before_ms: I64) -> Runs:
        """Gives, per impression, its user's newest behaviors before a time that are of the ad's kind."""
        width = int(of_behaviors.max()) + 1
        known = np.flatnonzero(of_behaviors >= 0)
        runs = runs_before(
            self._behaviors.user[known] * width + of_behaviors[known],
            self._behaviors.timestamp_ms[known],
            self._shown.user * width + of_ads,
            before_ms,
        )
        return Runs(known[runs.order], np.maximum(runs.start, runs.stop - newest), runs.stop)

    def _older_than_newest(self, number: int) -> I64:
        """Gives the time of the last but so many of each user's behaviors before the impression, 0 = none. (R,)."""
        behaviors, shown = self._behaviors, self._shown
        runs = runs_before(behaviors.user, behaviors.timestamp_ms, shown.user, shown.timestamp_ms)
        at = runs.stop - number
        times = behaviors.timestamp_ms[runs.order[np.maximum(at, 0)]]
        return np.where(at >= runs.start, times, 0)

    def _sum(self, runs: Runs, sign: I64, weigh: Weigh | None = None) -> F64:
        question, row = runs.pairs(slice(0, len(runs.start)))
        age_days = (self._shown.timestamp_ms[question] - self._behaviors.timestamp_ms[row]) / DAY_MS
        weight = np.ones(len(row)) if weigh is None else weigh(age_days)
        return _standardised(question, weight, sign[row], len(runs.start))

    def _in_order(self, runs: Runs) -> F64:
        question, row = runs.pairs(slice(0, len(runs.start)))
        follows = np.append(False, question[1:] == question[:-1])[: len(question)]
        tone = self._marks.tone[row]
        sign = (tone * np.roll(tone, 1))[follows]
        return _standardised(question[follows], np.ones(len(sign)), sign, len(runs.start))


def _standardised(question: I64, weight: F64, sign: I64, num_questions: int) -> F64:
    total = np.bincount(question, weight * sign, num_questions)
    square = np.bincount(question, weight * weight, num_questions)
    return np.divide(total, np.sqrt(square), out=np.zeros(num_questions), where=square > 0)


def _fading(age_days: F64) -> F64:
    return np.exp(-age_days / 20.0)


def _turning(age_days: F64) -> F64:
    return np.tanh((age_days - 60.0) / 20.0)
