"""One run: what was measured of one preset on one set with one seed, and the file that keeps it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model_stage.evaluation.metrics import auc, gauc, resampled
from model_stage.evaluation.report import report_by_target
from store.terminal import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from store.types import F32, U64, AnyArray, Bool

METRICS = ("auc", "gauc")
RESAMPLES, RESAMPLE_SEED = 200, 0
"""Of the users of the test split, the same ones for every run of a set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a trained model says of the test split, and what it cost."""

    targets: tuple[str, ...]
    labels: F32
    """NaN = unknown. (N, T)"""
    probability: AnyArray
    """(N, T)"""
    user: U64
    """(N,)"""
    cost: Mapping[str, float]
    more: Mapping[str, Any]
    """What else is worth keeping, as JSON knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One finished run."""

    set: str
    preset: str
    seed: int
    key: str
    """Digest of everything that it depends on."""
    made: str
    """Date and time, UTC."""
    metrics: dict[str, dict[str, float]]
    """By target."""
    resampled: dict[str, dict[str, list[float]]]
    """By target and metric: what it would have been with other users."""
    slices: dict[str, dict[str, dict[str, float | None]]]
    """By slice and target."""
    cost: dict[str, float]
    more: dict[str, Any]

    @property
    def name(self) -> tuple[str, str, int]:
        """Set, preset and seed."""
        return self.set, self.preset, self.seed


def measured(outcome: Outcome, slices: Mapping[str, Bool]) -> dict[str, Any]:
    """Gives what `Run` keeps of an outcome.

    Args:
        outcome: Of the test split.
        slices: Rows of the test split that belong to each. (N,) each
    """
    metrics = report_by_target(outcome.labels, outcome.probability, outcome.user, outcome.targets)
    again: dict[str, dict[str, list[float]]] = {}
    for at, target in enumerate(outcome.targets):
        known = ~np.isnan(outcome.labels[:, at])
        rows = outcome.labels[known, at], outcome.probability[known, at], outcome.user[known]
        again[target] = {
            metric: resampled(
                *rows,
                metric=metric,  # type: ignore[arg-type]
                seed=RESAMPLE_SEED,
                num_resamples=RESAMPLES,
            )
            .round(6)
            .tolist()
            for metric in METRICS
        }
    parts = {name: dict(_of_slice(outcome, inside)) for name, inside in slices.items()}
    return {
        "metrics": metrics,
        "resampled": again,
        "slices": parts,
        "cost": dict(outcome.cost),
        "more": dict(outcome.more),
    }


def _of_slice(outcome: Outcome, inside: Bool) -> Iterator[tuple[str, dict[str, float | None]]]:
    for at, target in enumerate(outcome.targets):
        rows = np.flatnonzero(inside & ~np.isnan(outcome.labels[:, at]))
        label, score = outcome.labels[rows, at], outcome.probability[rows, at]
        yield (
            target,
            {
                "auc": auc(label, score),
                "gauc": gauc(label, score, outcome.user[rows]),
                "impressions": float(len(rows)),
                "positives": float(label.sum()),
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Finished runs, a JSON file each."""

    path: Path

    def find(self, name: tuple[str, str, int], key: str) -> Run | None:
        """Gives the run of a key; None = it is still to be made."""
        file = self._file(name, key)
        return _read(file) if file.is_file() else None

    def keep(self, run: Run) -> None:
        """Writes a run: the file is whole, or is not there."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = self._file(run.name, run.key)
        write_json(half := file.with_suffix(f".{os.getpid()}"), run)
        half.rename(file)

    def others(self, names: Sequence[tuple[str, str, int]]) -> list[Run]:
        """Gives, of each name, the newest run there is, whatever it was made by."""
        runs: dict[tuple[str, str, int], Run] = {}
        for file in sorted(self.path.glob("*.json"), key=lambda file: file.stat().st_mtime):
            run = _read(file)
            runs[run.name] = run
        return [runs[name] for name in names if name in runs]

    def _file(self, name: tuple[str, str, int], key: str) -> Path:
        one, preset, seed = name
        return self.path / f"{one}-{preset}-{seed}-{key[:12]}.json"


def _read(file: Path) -> Run:
    return Run(**json.loads(file.read_text(encoding="utf-8")))


def new_run(name: tuple[str, str, int], key: str, made: str, numbers: dict[str, Any]) -> Run:
    """Gives a run of what was measured."""
    one, preset, seed = name
    return Run(set=one, preset=preset, seed=seed, key=key, made=made, **numbers)
