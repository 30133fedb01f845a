"""What the served lists are made of, and how far hard search has to climb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.retrieval import NO_LEVEL, SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from search_stage.config import HardConfig
    from store.retrieval import SearchResult
    from store.types import F64


_SOURCES = np.arange(8)
"""Every combination of `SOURCE_HARD`, `SOURCE_SOFT` and `SOURCE_RECENT`."""
_HARD, _SOFT, _RECENT = (_SOURCES & bit != 0 for bit in (SOURCE_HARD, SOURCE_SOFT, SOURCE_RECENT))
_MEANS = {
    "behaviors in the list": _SOURCES >= 0,
    "found by hard search": _HARD,
    "found by soft search": _SOFT,
    "found by both": _HARD & _SOFT,
    "newest ones": _RECENT,
    "found by hard search alone": _SOURCES == SOURCE_HARD,
    "found by soft search alone": _SOURCES == SOURCE_SOFT,
    "newest ones found by neither": _SOURCES == SOURCE_RECENT,
}
_SHARES = {
    "both of hard or soft (Jaccard)": (_HARD & _SOFT, _HARD | _SOFT),
    "hard that soft finds too": (_HARD & _SOFT, _HARD),
    "soft that hard finds too": (_HARD & _SOFT, _SOFT),
    "hard that is among the newest": (_HARD & _RECENT, _HARD),
    "soft that is among the newest": (_SOFT & _RECENT, _SOFT),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Of the served lists, means over candidates with a history."""

    num_candidates: int
    means: Mapping[str, float]
    """Behaviors per candidate."""
    shares: Mapping[str, float]
    """Mean over the candidates for which the whole is not empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainCoverage:
    """How far hard search climbs in one domain; level l stands at position l, shares are of all candidates."""

    domain: str
    min_matches: int
    max_level: int
    any_match: tuple[float, ...]
    """Share with at least one match at this level or below."""
    enough: tuple[float, ...]
    """Share with `min_matches` at this level or below."""
    matches: tuple[float, ...]
    """Matches at this level or below, mean."""
    stops: tuple[float, ...]
    """Share for which climbing stops here because enough is found."""
    exhausted: float
    """Share for which it ends at `max_level` with less than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What is found at all; shares are of all candidates, those of users without a history too."""

    num_requests: int
    num_candidates: int
    without_history: float
    without_hard: float
    """Share for which hard search found nothing, though there is a history."""
    unmapped_candidates: float
    """Share whose category is unknown."""
    unmapped_behaviors: float
    """Share of the behaviors that no level can match."""
    domains: tuple[DomainCoverage, ...]


class OverlapMeasure:
    """Adds up served answers."""

    def __init__(self) -> None:
        self._counts: list[npt.NDArray[np.int64]] = []
        self.num_without_hard = 0
        self.num_without_history = 0

    def add(self, result: SearchResult) -> None:
        """Counts one served answer."""
        num_candidates = len(result.offsets) - 1
        if not result.num_behaviors:
            self.num_without_history += num_candidates
            return
        owner = np.repeat(np.arange(num_candidates), np.diff(result.offsets))
        cells = np.bincount(owner * len(_SOURCES) + result.source, minlength=num_candidates * len(_SOURCES))
        counts = cells.reshape(num_candidates, len(_SOURCES))
        self.num_without_hard += int(np.count_nonzero(counts[:, _HARD].sum(axis=1) == 0))
        self._counts.append(counts)

    def result(self) -> Overlap:
        """Sums up."""
        counts = np.concatenate([np.zeros((0, len(_SOURCES)), np.int64), *self._counts])
        shares = {}
        for name, (part, whole) in _SHARES.items():
            parts, wholes = counts[:, part].sum(axis=1), counts[:, whole].sum(axis=1)
            shares[name] = _mean((parts[wholes > 0] / wholes[wholes > 0])[:, None]).item()
        means = {name: _mean(counts[:, which].sum(axis=1, keepdims=True)).item() for name, which in _MEANS.items()}
        return Overlap(num_candidates=len(counts), means=means, shares=shares)


class ClimbMeasure:
    """Adds up `list_everything` answers: cumulative matches by candidate, domain and level."""

    def __init__(self, domains: Sequence[str], num_levels: int) -> None:
        self._domains = tuple(domains)
        self._num_levels = num_levels
        self._counts: list[npt.NDArray[np.int64]] = []
        self._num_behaviors = self._num_unmapped = self._num_unknown = 0

    def add(self, result: SearchResult) -> None:
        """Counts one `list_everything` answer."""
        self._counts.append(cumulative_matches(result, len(self._domains), self._num_levels))
        self._num_behaviors += len(result.behaviors)
        self._num_unmapped += int(np.count_nonzero(result.behaviors.category == np.uint64(NO_ID)))
        self._num_unknown += int(np.count_nonzero(result.candidate_category == np.uint64(NO_ID)))

    def result(self, num_requests: int, overlap: OverlapMeasure, hard: HardConfig) -> Coverage:
        """Sums up.

        Args:
            num_requests: Requests that were counted.
            overlap: Of the served answers to the same requests.
            hard: The served policies.
        """
        counts = np.concatenate(self._counts)
        num_candidates = max(len(counts), 1)
        return Coverage(
            num_requests=num_requests,
            num_candidates=len(counts),
            without_history=overlap.num_without_history / num_candidates,
            without_hard=overlap.num_without_hard / num_candidates,
            unmapped_candidates=self._num_unknown / num_candidates,
            unmapped_behaviors=self._num_unmapped / max(self._num_behaviors, 1),
            domains=tuple(_domain_coverage(domain, counts[:, code], hard) for code, domain in enumerate(self._domains)),
        )


def cumulative_matches(answer: SearchResult, num_domains: int, num_levels: int) -> npt.NDArray[np.int64]:
    """Gives the matches at each level or below in a `list_everything` answer, by candidate and domain. (C, D, L).

    Args:
        answer: See `ClimbMeasure`.
        num_domains: Number of domain codes.
        num_levels: Number of levels that it climbed, level 0 included.
    """
    num_candidates = len(answer.offsets) - 1
    owner = np.repeat(np.arange(num_candidates), np.diff(answer.offsets))
    matched = answer.match_level != NO_LEVEL
    domain = answer.behaviors.domain[answer.index[matched]].astype(np.int64)
    shape = (num_candidates, num_domains, num_levels)
    at = np.ravel_multi_index((owner[matched], domain, answer.match_level[matched].astype(np.int64)), shape)
    return np.bincount(at, minlength=int(np.prod(shape))).reshape(shape).cumsum(axis=2)


def _domain_coverage(domain: str, counts: npt.NDArray[np.int64], hard: HardConfig) -> DomainCoverage:
    """Sums up one domain.

    Args:
        domain: Its name.
        counts: Matches at each level or below, by candidate. (C, L)
        hard: The served policies.
    """
    policy = hard.policy(domain)
    enough = counts >= policy.min_matches
    climbed = enough[:, : policy.max_level + 1]
    first = np.where(climbed.any(axis=1), climbed.argmax(axis=1), counts.shape[1])
    stops = np.bincount(first, minlength=counts.shape[1] + 1) / max(len(counts), 1)
    return DomainCoverage(
        domain=domain,
        min_matches=policy.min_matches,
        max_level=policy.max_level,
        any_match=tuple(_mean(counts > 0).tolist()),
        enough=tuple(_mean(enough).tolist()),
        matches=tuple(_mean(counts).tolist()),
        stops=tuple(stops[:-1].tolist()),
        exhausted=float(stops[-1]),
    )


def _mean(columns: npt.NDArray[np.generic]) -> F64:
    """Gives the mean of each column; NaN where there are no rows."""
    return columns.mean(axis=0, dtype=np.float64) if len(columns) else np.full(columns.shape[1], np.nan)
