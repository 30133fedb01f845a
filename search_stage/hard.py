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

from search_stage.compiled import read_only
from search_stage.hard_kernels import Asked, Policies, answer_questions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_stage.config import HardPolicy
    from search_stage.history import History
    from search_stage.levels import LevelMatches
    from store.types import I64, Bool, Vocabulary

_DAY_MS = 86_400_000
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


def hard_search(
    matches: LevelMatches,
    policies: Sequence[HardPolicy],
    vocabulary: Vocabulary,
    as_of_ms: int,
    cap: int | None = None,
) -> HardMatches:
    """Runs hierarchical hard search for all candidates.

    Args:
        matches: The level matches of the request, with more levels than every policy's `max_level`.
        policies: One policy for each of `matches.history.domains`.
        vocabulary: Names behind the codes of the history.
        as_of_ms: The request's time, which ages are counted from.
        cap: Also answer at most this many per candidate over all domains, by (match level, newest first).

    Returns:
        The behaviors found. Mutates nothing.
    """
    history = matches.history
    scene, passing_scenes = _NO_SCENES, [_passing_scenes(policy, vocabulary) for policy in policies]
    if any(len(passing) for passing in passing_scenes):
        scene = read_only(history.columns.scene, np.uint16)
    asked = Asked(
        chain_start=matches.chain_start,
        category=matches.category,
        chain=matches.chain,
        low=matches.low,
        high=matches.high,
        own_start=matches.own_start,
        own_section=matches.own_section,
        own_low=matches.own_low,
        own_high=matches.own_high,
    )
    limits = [
        (_first_passing(history, policy, as_of_ms), policy.quota, policy.min_matches, policy.max_level)
        for policy in policies
    ]
    passing = [_passing_sections(history, at, policy, vocabulary) for at, policy in enumerate(policies)]
    let_pass = Policies(
        limits=np.array(limits, np.int64).reshape(len(policies), 4),
        passing=np.array(passing, np.bool_).reshape(len(policies), len(history.section_domain)),
        passing_scene=np.concatenate([_EVERY_SCENE, *passing_scenes]),
        scene_offsets=np.array([0, *accumulate(map(len, passing_scenes))], np.int64),
    )
    most = sum(policy.quota for policy in policies) if cap is None else cap
    question, start, rank, level = answer_questions(
        history.rank, history.order, scene, history.cut, let_pass, asked, most
    )
    return HardMatches(question=question, start=start, rank=rank, level=level)


def _passing_sections(history: History, domain: int, policy: HardPolicy, vocabulary: Vocabulary) -> Bool:
    passing: Bool = history.section_domain == domain
    if policy.actions is not None:
        for at, section in enumerate(history.columns.sections):
            passing[at] &= vocabulary.actions[section.action] in policy.actions
    return passing


def _passing_scenes(policy: HardPolicy, vocabulary: Vocabulary) -> Bool:
    """Says of each scene code whether it passes; empty = every one does."""
    if policy.scenes is None:
        return _EVERY_SCENE
    # A policy of scenes that the store has none of lets nothing pass, which no scene code would say.
    return np.array([name in policy.scenes for name in vocabulary.scenes] or [False], np.bool_)


def _first_passing(history: History, policy: HardPolicy, as_of_ms: int) -> int:
    """Gives the position in the time order of the oldest behavior that is young enough."""
    if policy.max_age_days is None:
        return 0
    return history.rank_at(as_of_ms - int(policy.max_age_days * _DAY_MS))
