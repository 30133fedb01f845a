"""Hierarchical hard search: behaviors related to the candidate by the taxonomy, one policy per domain.

Per candidate and domain, each on its own:

- Only behaviors that the domain's policy lets pass are looked at: by action, scene and age.
- A row's match level is the smallest level whose set holds it (`levels.py` says what the sets are).
- The stop level is the first up to which at least `min_matches` rows are found, else `max_level`.
- The answer is the rows at levels up to the stop level, by (match level, newest first), the first `quota` of them.

Candidates that share their category and match nothing at level 0 have the same answer, which is computed once.

Time is a position in the user's time order (`rank`), which breaks ties by event order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from search_stage.hard.hard_kernels import Policies, Timeline, answer_questions
from store.compiled import read_only
from store.types import DAY_MS

if TYPE_CHECKING:
    from search_stage.config import HardConfig, HardPolicy
    from search_stage.hard.levels import LevelMatches
    from store.types import I64, Bool, Vocabulary

_NO_SCENES = read_only(np.empty(0, np.uint16))
_EVERY_SCENE = np.empty(0, np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True)
class HardMatches:
    """What hard search found: the answer of each distinct question, and whose question it is."""

    question: I64
    """Question of each candidate: equal ones have equal answers. (C,)"""
    start: I64
    """Where each question's answer starts in the other two, and the end. (K + 1,)"""
    rank: I64
    """Position of each behavior in the user's time order, ascending within an answer. (H,)"""
    level: I64
    """Match level. (H,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardPolicies:
    """The policies of all domains, by the codes of one vocabulary. Immutable and thread-safe."""

    vocabulary: Vocabulary
    by_code: Policies
    total_quota: int
    """Of all domains."""
    max_age_ms: tuple[tuple[int, int], ...]
    """Domain code and oldest age of the policies that ask for one."""

    @staticmethod
    def of(config: HardConfig, vocabulary: Vocabulary) -> HardPolicies:
        """Translates names into codes. Cost: O(domains x (actions + scenes))."""
        policies = [config.policy(domain) for domain in vocabulary.domains]
        passing_scenes = [_passing_scenes(policy, vocabulary) for policy in policies]
        passing_actions = [
            policy.actions is None or action in policy.actions for policy in policies for action in vocabulary.actions
        ]
        limits = [(policy.quota, policy.min_matches, policy.max_level) for policy in policies]
        return HardPolicies(
            vocabulary=vocabulary,
            by_code=Policies(
                limits=np.array(limits, np.int64).reshape(len(policies), 3),
                passing_action=np.array(passing_actions, np.bool_).reshape(len(policies), len(vocabulary.actions)),
                passing_scene=np.concatenate([_EVERY_SCENE, *passing_scenes]),
                scene_offsets=np.array([0, *accumulate(map(len, passing_scenes))], np.int64),
            ),
            total_quota=sum(policy.quota for policy in policies),
            max_age_ms=tuple(
                (domain, int(policy.max_age_days * DAY_MS))
                for domain, policy in enumerate(policies)
                if policy.max_age_days is not None
            ),
        )

    def for_vocabulary(self, config: HardConfig, vocabulary: Vocabulary) -> HardPolicies:
        """Gives itself, or what live data with names of their own ask for."""
        return self if vocabulary is self.vocabulary else HardPolicies.of(config, vocabulary)


def hard_search(matches: LevelMatches, policies: HardPolicies, as_of_ms: int, cap: int | None = None) -> HardMatches:
    """Runs hierarchical hard search for all candidates.

    Args:
        matches: The level matches of the request, with more levels than every policy's `max_level`.
        policies: In the codes of the history.
        as_of_ms: The request's time, which ages are counted from.
        cap: Also answer at most this many per candidate over all domains, by (match level, newest first).

    Returns:
        The behaviors found. Mutates nothing.
    """
    history, by_code = matches.history, policies.by_code
    first = np.zeros(len(by_code.limits), np.int64)
    for domain, age_ms in policies.max_age_ms:
        first[domain] = history.rank_at(as_of_ms - age_ms)
    scene = read_only(history.columns.scene, np.uint16) if len(by_code.passing_scene) else _NO_SCENES
    timeline = Timeline(history.rank, history.order, scene, history.cut, history.section_stream)
    question, start, rank, level = answer_questions(
        timeline, by_code, first, matches.intervals, matches.own, policies.total_quota if cap is None else cap
    )
    return HardMatches(question=question, start=start, rank=rank, level=level)


def _passing_scenes(policy: HardPolicy, vocabulary: Vocabulary) -> Bool:
    """Says of each scene code whether it passes; empty = every one does."""
    if policy.scenes is None:
        return _EVERY_SCENE
    # A policy of scenes that the store has none of lets nothing pass, which no scene code would say.
    return np.array([name in policy.scenes for name in vocabulary.scenes] or [False], np.bool_)
