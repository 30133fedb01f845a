"""What matches at each level tell about the label: whether climbing there can pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from store.retrieval import MatchStatistics
    from store.types import Bool

FOUND_BELOW = ((0, 0), (1, 1), (2, 4), (5, 9), (10, 19), (20, 39), (40, None))
"""Matches one level below, from and to: what climbing adds is looked at for each of them."""
_MIN_ROWS = 20
"""Positive rows, and negative ones, below which there is no AUC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelLift:
    """Of one level: how well numbers of matches tell positive rows from negative ones."""

    level: int
    auc: float | None
    """AUC of the number of matches at this level, all rows; None = too few rows of either label."""
    added: tuple[ClimbLift, ...]
    """By what was found one level below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClimbLift:
    """Rows by the number of matches one level below."""

    least: int
    most: int | None
    """None = any number."""
    num_rows: int
    num_positives: int
    auc: float | None
    """AUC of the number of further matches that climbing to this level adds."""


class LiftMeasure:
    """Adds up the match statistics of answers."""

    def __init__(self) -> None:
        self._counts: list[npt.NDArray[np.int64]] = []
        self._labels: list[Bool] = []

    def add(self, statistics: MatchStatistics, label: Bool) -> None:
        """Counts one answer; `label` is of its candidates, (C,)."""
        self._counts.append(statistics.count.sum(axis=2, dtype=np.int64))
        self._labels.append(label)

    def result(self) -> tuple[LevelLift, ...]:
        """Sums up, level by level."""
        label = np.concatenate(self._labels)
        # A product that an ad covers may stand outside its category: a level holds what those below it hold.
        counts = np.maximum.accumulate(np.concatenate(self._counts), axis=1)
        lifts = []
        for level in range(counts.shape[1]):
            below = counts[:, level - 1] if level else np.zeros(len(label), np.int64)
            added = []
            for least, most in FOUND_BELOW if level else ():
                rows = (below >= least) & ((below <= most) if most is not None else True)
                added.append(
                    ClimbLift(
                        least=least,
                        most=most,
                        num_rows=int(np.count_nonzero(rows)),
                        num_positives=int(np.count_nonzero(label[rows])),
                        auc=_auc(label[rows], (counts[:, level] - below)[rows]),
                    )
                )
            lifts.append(LevelLift(level=level, auc=_auc(label, counts[:, level]), added=tuple(added)))
        return tuple(lifts)


def _auc(label: Bool, count: npt.NDArray[np.int64]) -> float | None:
    num_positives = int(np.count_nonzero(label))
    if min(num_positives, len(label) - num_positives) < _MIN_ROWS:
        return None
    from sklearn.metrics import roc_auc_score  # a second to import, and `serve` would pay for it

    return float(roc_auc_score(label, count))
