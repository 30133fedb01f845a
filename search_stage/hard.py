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
from typing import TYPE_CHECKING

import numpy as np

from search_stage.compiled import read_only
from search_stage.hard_kernels import Questions, climb_and_take, distinct_questions, join_domains
from search_stage.newest_rows import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_stage.config import HardPolicy
    from search_stage.history import History
    from search_stage.levels import LevelMatches
    from store.types import I64, Bool, Vocabulary

_DAY_MS = 86_400_000
_NO_SCENES = read_only(np.empty(0, np.uint16))
_EVERY_SCENE = read_only(np.empty(0, np.bool_))


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
    question, *ranges = distinct_questions(matches.chain_start, matches.category, matches.own_start)
    own_first, own_end, chain_first, chain_end = ranges
    questions = Questions(
        own_low=matches.own_low,
        own_high=matches.own_high,
        own_section=matches.own_section,
        own_first=own_first,
        own_end=own_end,
        chain_first=chain_first,
        chain_end=chain_end,
        chain=matches.chain,
        low=matches.low,
        high=matches.high,
    )
    starts, answers = np.zeros((len(policies), len(own_first), 2), np.int64), []
    end = 0
    for at, policy in enumerate(policies):
        passing = _passing_sections(history, at, policy, vocabulary)
        rows = _passing_rows(history, policy, vocabulary, as_of_ms)
        if policy.quota == 0 or rows.first >= rows.cut or not passing.any():
            continue
        start, answer = climb_and_take(rows, questions, passing, policy.quota, policy.min_matches, policy.max_level)
        starts[at, :, 0], starts[at, :, 1] = end + start[:-1], end + start[1:]
        answers.append(answer)
        end += len(answer)
    found = np.concatenate(answers) if answers else np.empty(0, np.int64)
    start, rank, level = join_domains(starts, found, len(policies), len(own_first), end if cap is None else cap)
    return HardMatches(question=question, start=start, rank=rank, level=level)


def _passing_sections(history: History, domain: int, policy: HardPolicy, vocabulary: Vocabulary) -> Bool:
    passing: Bool = history.section_domain == domain
    if policy.actions is not None:
        for at, section in enumerate(history.columns.sections):
            passing[at] &= vocabulary.actions[section.action] in policy.actions
    return passing


def _passing_rows(history: History, policy: HardPolicy, vocabulary: Vocabulary, as_of_ms: int) -> Rows:
    scene, passing_scene = _NO_SCENES, _EVERY_SCENE
    if policy.scenes is not None:
        scene = read_only(history.columns.scene, np.uint16)
        passing_scene = read_only(np.array([name in policy.scenes for name in vocabulary.scenes], np.bool_))
    first = 0
    if policy.max_age_days is not None:
        first = history.rank_at(as_of_ms - int(policy.max_age_days * _DAY_MS))
    return Rows(
        rank=history.rank,
        order=history.order,
        scene=scene,
        passing_scene=passing_scene,
        first=first,
        cut=history.cut,
    )
