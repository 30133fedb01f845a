"""Search quality by the worth of behaviors: NDCG of whole rankings, and the share of the worth that lists hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.study.rankings import Lists, ndcg
from store.retrieval import NO_LEVEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from search_stage.study.policies import Policy
    from search_stage.study.rankings import RankedHistory
    from store.types import F64, I64


RANKINGS = ("soft", "hard", "newest", "random")
"""By score; by match level and then time; by time; the control."""
LENGTHS = (5, 10, 20, 40, 80, 160)
"""Of the lists whose share of the worth is measured."""
NUM_SEEDS = 5
_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over users, each of them with the mean of their own rows."""

    mean: float
    seeds: tuple[float, ...]
    """The same mean on each of the samples of users, one per seed."""
    low: float
    """Of the 95 % bootstrap interval over users."""
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyQuality:
    """What one policy's lists hold."""

    name: str
    length: float
    """Behaviors per list, mean."""
    share: float
    """Share of the history's worth, mean."""
    best: float
    """Share that the most worthy behaviors of the same number have, mean."""
    random: float
    """Share that as many behaviors drawn at random have, mean."""

    @property
    def skill(self) -> float:
        """Where it stands from random, 0, to best, 1; NaN where there is nothing to choose."""
        return (self.share - self.random) / (self.best - self.random) if self.best > self.random else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """All of it; shares are of the worth of a row's whole history, means over users."""

    num_rows: int
    """Test rows with something of worth in the history."""
    num_users: int
    ndcg: Mapping[str, Estimate]
    """NDCG@20 by ranking."""
    differences: Mapping[str, Estimate]
    """Paired differences of NDCG@20, "soft - hard" and so on."""
    shares: Mapping[str, tuple[float, ...]]
    """Share of the worth in the first `LENGTHS` of each ranking, "hard" without what it does not find; and "best"."""
    policies: tuple[PolicyQuality, ...]


class QualityMeasure:
    """Measures row after row, and sums up by user."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = tuple(policies)
        self._rows: list[F64] = []
        self._users: list[int] = []

    def add(self, user: int, history: RankedHistory, generator: np.random.Generator) -> None:
        """Measures one candidate, whose behaviors are worth 0 or more; a history without worth is left out."""
        if not np.nansum(history.worth) > 0:
            return
        orders = {
            "soft": history.soft_order(),
            "hard": history.hard_order(),
            "newest": np.arange(len(history) - 1, -1, -1),
            "random": generator.permutation(len(history)),
        }
        worth = np.nan_to_num(history.worth)
        best = np.cumsum(np.sort(worth)[::-1]) / worth.sum()
        row = [ndcg(history.worth, orders[name]) for name in RANKINGS]
        for name in RANKINGS:
            found = worth * (history.level != NO_LEVEL) if name == "hard" else worth
            row += _at(np.cumsum(found[orders[name]]) / worth.sum(), LENGTHS)
        row += _at(best, LENGTHS)
        lists = Lists(history)
        for policy in self._policies:
            listed = lists.listed(policy.hard, policy.soft, policy.recent)
            length = int(np.count_nonzero(listed))
            most = best[length - 1] if length else 0
            row += [length, float(worth[listed].sum() / worth.sum()), most, length / len(history)]
        self._rows.append(np.array(row, np.float64))
        self._users.append(user)

    def result(self, samples: Sequence[npt.NDArray[np.uint64]], generator: np.random.Generator) -> Quality:
        """Sums up.

        Args:
            samples: Users of each seed's sample.
            generator: Draws the bootstrap's resamples.
        """
        width = len(RANKINGS) + (len(RANKINGS) + 1) * len(LENGTHS) + 4 * len(self._policies)
        users, at = np.unique(np.array(self._users, np.uint64), return_inverse=True)
        rows = np.array(self._rows).reshape(-1, width)
        by_user = np.zeros((len(users), width))
        np.add.at(by_user, at, rows)
        by_user /= np.bincount(at, minlength=len(users))[:, None]
        members = [np.flatnonzero(np.isin(users, sample)) for sample in samples]
        scores: dict[str, F64] = dict(zip(RANKINGS, by_user.T, strict=False))
        mean = by_user.mean(axis=0) if len(users) else np.full(width, np.nan)
        curves = mean[len(RANKINGS) :].reshape(-1)[: (len(RANKINGS) + 1) * len(LENGTHS)].reshape(-1, len(LENGTHS))
        lists = mean[width - 4 * len(self._policies) :].reshape(-1, 4).tolist()
        return Quality(
            num_rows=len(rows),
            num_users=len(users),
            ndcg={name: _estimate(scores[name], members, generator) for name in RANKINGS},
            differences={
                f"{left} - {right}": _estimate(scores[left] - scores[right], members, generator)
                for left, right in (("soft", "hard"), ("soft", "newest"), ("hard", "newest"))
            },
            shares={name: tuple(curve) for name, curve in zip((*RANKINGS, "best"), curves.tolist(), strict=True)},
            policies=tuple(
                PolicyQuality(name=policy.name, length=length, share=share, best=best, random=by_chance)
                for policy, (length, share, best, by_chance) in zip(self._policies, lists, strict=True)
            ),
        )


def _at(curve: F64, lengths: Sequence[int]) -> list[float]:
    return [float(curve[min(length, len(curve)) - 1]) for length in lengths]


def _estimate(values: F64, members: Sequence[I64], generator: np.random.Generator) -> Estimate:
    if not len(values):
        return Estimate(mean=float("nan"), seeds=(), low=float("nan"), high=float("nan"))
    drawn = generator.integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), _INTERVAL)
    seeds = tuple(float(values[rows].mean()) for rows in members if len(rows))
    return Estimate(mean=float(values.mean()), seeds=seeds, low=float(low), high=float(high))
