"""Fits and measures the baselines on a dataset directory; `run_baselines` is what other scripts call."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_stage.evaluation.metrics import auc, gauc, logloss
from scripts.baselines import boosting, perceptron
from scripts.baselines.data import load_dataset
from scripts.baselines.features import NAMES, fourteen_numbers
from scripts.baselines.similarity import cosines
from scripts.baselines.times import numbers_of_time
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from scripts.baselines.data import Dataset
    from store.types import F64, I64, AnyArray

FITTED = {
    "boosting": (boosting.fit_and_score, 1),
    "perceptron": (perceptron.fit_and_score, 1),
    "boosting_time": (boosting.fit_and_score, 2),
    "boosting_time_similarity": (boosting.fit_and_score, 3),
}
"""What is fitted, on how many of the blocks of numbers: the fourteen, those of time, the cosines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One baseline's scores of the test rows for one target, and what they are worth."""

    baseline: str
    target: str
    seed: int
    auc: float
    gauc: float
    """Per user, weighted by impressions."""
    logloss: float | None
    """None where the scores are no probabilities."""
    num_rows: int
    num_positives: int
    rows: I64
    """Positions in the impressions table: the test rows with a known label. (num_rows,)"""
    scores: F64
    """(num_rows,)"""

    def as_json(self) -> dict[str, object]:
        """Gives everything but the columns."""
        return {name: value for name, value in asdict(self).items() if name not in ("rows", "scores")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What baselines are fitted on: the numbers of every impression of a dataset."""

    dataset: Dataset
    fourteen: F64
    """(R, 14)"""
    blocks: tuple[AnyArray, ...]
    """The fourteen, those of time, the cosines. (R, columns) each"""

    @staticmethod
    def of(dataset: Dataset) -> Inputs:
        """Computes them."""
        fourteen = fourteen_numbers(dataset)
        return Inputs(dataset=dataset, fourteen=fourteen, blocks=(fourteen, numbers_of_time(dataset), cosines(dataset)))

    def fit(self, name: str, target: str, seed: int) -> Result:
        """Gives the result of one of `FITTED`: trained on the train split, measured on the test split."""
        fit_and_score, num_blocks = FITTED[name]
        train, test = split_rows(self.dataset, target)
        numbers = [np.hstack([block[rows] for block in self.blocks[:num_blocks]]) for rows in (train, test)]
        scores = fit_and_score(numbers[0], self.dataset.labels[target][train] == 1.0, numbers[1], seed)
        return _measured(name, target, seed, self.dataset, test, scores, probabilities=True)


def run_baselines(
    data: Path, targets: Sequence[str], seeds: Sequence[int], progress: Callable[[str], None] = lambda _: None
) -> list[Result]:
    """Gives the results of all baselines: trained on the train split, measured on the test split.

    Args:
        data: Dataset directory.
        targets: Names of labels; empty = all of them.
        seeds: One fit per seed; popularity has none to fit.
        progress: Called with each step that starts.

    Raises:
        InputError: A target has no label column; or see `load_dataset`.
        ConfigError: See `load_dataset`.
    """
    progress("reading")
    dataset = load_dataset(data)
    unknown = sorted(set(targets) - dataset.labels.keys())
    if unknown:
        raise InputError(f"{data}: no column label_{unknown[0]} in the impressions")
    progress("numbers of every impression")
    inputs, results = Inputs.of(dataset), []
    for target in targets or tuple(dataset.labels):
        _, test = split_rows(dataset, target)
        scores = popularity(inputs.fourteen)[test]
        results.append(_measured("popularity", target, 0, dataset, test, scores, probabilities=False))
        for name in FITTED:
            for seed in seeds:
                progress(f"{name}, {target}, seed {seed}")
                results.append(inputs.fit(name, target, seed))
    return results


def popularity(numbers: F64) -> F64:
    """Scores the ad answered most often so far highest, equal ads by the popularity of their category. (R,).

    The scores are no probabilities.

    Args:
        numbers: The fourteen numbers. (R, 14)
    """
    item, category = (numbers[:, NAMES.index(name)] for name in ("item_popularity", "category_popularity"))
    below_one: F64 = category / (category.max(initial=0.0) + 1.0)
    return item + below_one


def split_rows(data: Dataset, target: str) -> tuple[I64, I64]:
    """Gives the rows of the train and the test split whose label is known."""
    known = np.isfinite(data.labels[target])
    time, splits = data.shown.timestamp_ms, data.splits
    train = known & (time >= (splits.train_from_ms or 0)) & (time < splits.validation_from_ms)
    return np.flatnonzero(train), np.flatnonzero(known & (time >= splits.test_from_ms))


def _measured(
    name: str, target: str, seed: int, data: Dataset, rows: I64, scores: F64, *, probabilities: bool
) -> Result:
    label, user = data.labels[target][rows], data.shown.user[rows]
    return Result(
        baseline=name,
        target=target,
        seed=seed,
        auc=auc(label, scores),
        gauc=gauc(label, scores, user),
        logloss=logloss(label, scores) if probabilities else None,
        num_rows=len(rows),
        num_positives=int(label.sum()),
        rows=rows,
        scores=scores,
    )
