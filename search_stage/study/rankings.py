"""Rankings of a user's history for one candidate, by soft search, hard search and time; and their NDCG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.ragged import position_in_group
from store.retrieval import SOURCE_RECENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from search_stage.config import HardPolicy, SearchConfig
    from search_stage.study.association import Association
    from search_stage.study.groups import CategoryGroups
    from store.retrieval import SearchResult
    from store.types import F32, F64, I64, Bool

MAX_RANKED = 10_000
"""Newest behaviors that are ranked; `search.yaml` allows no more in a list."""
_MAX_ENTRIES = 256 * MAX_RANKED
"""More than any list has per candidate: a quota for each domain, and the newest ones."""
_NDCG_LENGTH = 20
"""Of NDCG."""
_DISCOUNTS = 1 / np.log2(np.arange(_NDCG_LENGTH) + 2)
_MAX_DOMAINS = 256


def list_everything(config: SearchConfig, num_levels: int) -> SearchConfig:
    """Gives a configuration whose lists hold a user's newest `MAX_RANKED` behaviors, each with its score and level.

    Args:
        config: What is served; what its policies do not look at, this one does not look at either.
        num_levels: Levels to climb and to count, level 0 included.
    """
    everything = {"quota": MAX_RANKED, "min_matches": MAX_RANKED, "max_level": num_levels - 1}
    hard = config.hard.model_copy(
        update={
            "default": config.hard.default.model_copy(update=everything),
            "domains": {name: policy.model_copy(update=everything) for name, policy in config.hard.domains.items()},
        }
    )
    return config.model_copy(
        update={
            "hard": hard,
            "soft": config.soft.model_copy(update={"top_k": 0}),
            "recent": config.recent.model_copy(update={"top_k": MAX_RANKED}),
            "statistics": config.statistics.model_copy(update={"levels": num_levels}),
            "limits": config.limits.model_copy(update={"max_entries": config.limits.max_candidates * _MAX_ENTRIES}),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedHistory:
    """One candidate's view of a user's newest behaviors, oldest first, as columns of length N."""

    worth: F64
    """Nats, negative = speaks against the candidate; NaN = not judged. (N,)"""
    level: I64
    """Match level, `NO_LEVEL` = related at no level."""
    domain: I64
    """Code."""
    score: F32
    """Inner product of attention vectors; 0 without an index."""

    def __len__(self) -> int:
        return len(self.worth)

    def soft_order(self) -> I64:
        """Gives the behaviors by (score, newest). (N,)."""
        return np.lexsort((_backward(len(self)), -self.score))

    def hard_order(self) -> I64:
        """Gives the behaviors by (match level, newest), unrelated ones last. (N,)."""
        return np.lexsort((_backward(len(self)), self.level))


class Lists:
    """What any policy would list of one history; sorted once for all of them."""

    def __init__(self, history: RankedHistory) -> None:
        self._soft_order = history.soft_order()
        self._order = np.lexsort((_backward(len(history)), history.level, history.domain))
        """By domain, and in each by (match level, newest). (N,)"""
        self._level, self._domain = history.level[self._order], history.domain[self._order]
        self._place = position_in_group(self._domain)

    def listed(self, policy: HardPolicy, num_soft: int, num_recent: int) -> Bool:
        """Says which behaviors the merged list holds, oldest first. (N,).

        Args:
            policy: Of hard search, for every domain; its filters are not looked at.
            num_soft: Behaviors of soft search.
            num_recent: Newest ones.
        """
        stop = np.full(_MAX_DOMAINS, policy.max_level)
        # The level of the `min_matches`-th match is where enough are found.
        last = np.flatnonzero(self._place == max(policy.min_matches, 1) - 1)
        stop[self._domain[last]] = np.minimum(self._level[last] if policy.min_matches else 0, policy.max_level)
        listed = np.zeros(len(self._order), np.bool_)
        listed[self._order[(self._level <= stop[self._domain]) & (self._place < policy.quota)]] = True
        listed[self._soft_order[:num_soft]] = True
        listed[len(listed) - min(num_recent, len(listed)) :] = True
        return listed


def _backward(count: int) -> I64:
    """Gives positions counted from the newest, 0, of behaviors that stand oldest first."""
    return np.arange(count - 1, -1, -1)


def ranked_histories(result: SearchResult, groups: CategoryGroups, association: Association) -> Iterator[RankedHistory]:
    """Gives each candidate's view of the history that a `list_everything` answer lists."""
    behavior_group = groups.of_categories(result.behaviors.category)
    candidate_group = groups.of_categories(result.candidate_category)
    for candidate in range(len(result.offsets) - 1):
        part = slice(int(result.offsets[candidate]), int(result.offsets[candidate + 1]))
        newest = np.flatnonzero(result.source[part] & SOURCE_RECENT)
        index, position = result.index[part][newest], _backward(len(newest))
        yield RankedHistory(
            worth=association.worth_of(int(candidate_group[candidate]), position, behavior_group[index]),
            level=result.match_level[part][newest].astype(np.int64),
            domain=result.behaviors.domain[index].astype(np.int64),
            score=result.score[part][newest],
        )


def ndcg(worth: F64, order: I64) -> float:
    """Gives NDCG@20 of a ranking, by the judged behaviors alone; NaN where nothing is worth anything.

    Args:
        worth: Of each behavior; NaN = not judged. (N,)
        order: The behaviors, best first. (N,)
    """
    gains = worth[order]
    gains = gains[~np.isnan(gains)]
    best = np.sort(gains)[::-1][:_NDCG_LENGTH] @ _DISCOUNTS[: len(gains)]
    return float(gains[:_NDCG_LENGTH] @ _DISCOUNTS[: len(gains)] / best) if best > 0 else float("nan")
