"""From finished runs to the numbers of the report: means, paired differences with intervals, slices, costs, worlds."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from scripts.evidence.results import METRICS
from scripts.evidence.sets import REFERENCES, TREES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scripts.evidence.results import Run
    from scripts.evidence.sets import World
    from store.types import F64

    Rows = list[dict[str, Any]]
    BySeed = dict[int, Run]

MEASURED = (*METRICS, "logloss")
_TAIL = 0.025


def grouped(runs: Iterable[Run]) -> dict[str, dict[str, BySeed]]:
    """Gives the runs by set, preset and seed, in the order in which they come."""
    groups: dict[str, dict[str, BySeed]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        groups[run.set][run.preset][run.seed] = run
    return {name: dict(presets) for name, presets in groups.items()}


def rows_of(runs: Iterable[Run]) -> Rows:
    """Gives one row for each run and target."""
    return [
        {"set": run.set, "preset": run.preset, "target": target, "seed": run.seed}
        | {metric: numbers[metric] for metric in MEASURED}
        for run in runs
        for target, numbers in run.metrics.items()
    ]


def means_of(presets: Mapping[str, BySeed]) -> Rows:
    """Gives, of one set, the means of every preset and target over its seeds."""
    found: Rows = []
    for preset, runs in presets.items():
        for target in _targets(runs):
            row: dict[str, Any] = {"preset": preset, "target": target, "seeds": sorted(runs)}
            for metric in MEASURED:
                values = np.array([run.metrics[target][metric] for run in runs.values()])
                row[metric] = float(values.mean())
                row[f"{metric}_deviation"] = float(values.std(ddof=1)) if len(values) > 1 else None
            found.append(row)
    return found


def differences_of(presets: Mapping[str, BySeed], references: Sequence[str] = REFERENCES) -> Rows:
    """Gives, of one set, every preset's paired differences to the references, over the seeds that both have.

    An interval over seeds is Student's t of the paired differences; one over users is the percentiles of the mean
    difference with whole users drawn again.
    """
    return [
        {"preset": preset, "reference": reference, "target": target, "metric": metric}
        | _difference(runs, presets[reference], target, metric)
        for reference in references
        if reference in presets
        for preset, runs in presets.items()
        if preset != reference and runs.keys() & presets[reference].keys()
        for target in _targets(runs)
        for metric in METRICS
    ]


def _difference(ours: BySeed, theirs: BySeed, target: str, metric: str) -> dict[str, Any]:
    seeds = sorted(ours.keys() & theirs.keys())
    values = np.array([ours[seed].metrics[target][metric] - theirs[seed].metrics[target][metric] for seed in seeds])
    drawn = np.mean([_resampled(ours[seed], theirs[seed], target, metric) for seed in seeds], axis=0)
    half = stats.sem(values) * stats.t.ppf(1 - _TAIL, len(values) - 1) if len(values) > 1 else None
    mean = float(values.mean())
    return {
        "seeds": seeds,
        "mean": mean,
        "over_seeds": None if half is None else [mean - float(half), mean + float(half)],
        "over_users": np.nanquantile(drawn, [_TAIL, 1 - _TAIL]).tolist() if np.isfinite(drawn).any() else None,
    }


def _resampled(ours: Run, theirs: Run, target: str, metric: str) -> F64:
    first, second = (np.array(run.resampled[target][metric], np.float64) for run in (ours, theirs))
    difference: F64 = first - second
    return difference


def slices_of_runs(presets: Mapping[str, BySeed]) -> Rows:
    """Gives, of one set, the mean metrics of each slice, target and preset."""
    found: Rows = []
    for preset, runs in presets.items():
        first = next(iter(runs.values()))
        for name, targets in first.slices.items():
            for target, numbers in targets.items():
                row = {"slice": name, "target": target, "preset": preset, "seeds": len(runs)}
                row |= {what: numbers[what] for what in ("impressions", "positives")}
                for metric in METRICS:
                    row[metric] = _mean([run.slices[name][target][metric] for run in runs.values()])
                found.append(row)
    return found


def costs_of(presets: Mapping[str, BySeed]) -> Rows:
    """Gives, of one set, the median cost of each preset over its seeds."""
    names = list(dict.fromkeys(name for runs in presets.values() for run in runs.values() for name in run.cost))
    return [
        {"preset": preset}
        | {name: _median([run.cost[name] for run in runs.values() if name in run.cost]) for name in names}
        for preset, runs in presets.items()
    ]


def world_of(presets: Mapping[str, BySeed], world: World, truth: Mapping[str, float]) -> Rows:
    """Gives how much of the way to the ceiling each preset goes, per target.

    The way begins at the best preset that lacks the mechanism. Of trees it is said how much of the distance between
    the ceilings with and without the mechanism they close.

    Args:
        presets: Runs of the world.
        world: Which preset is made for it, and which lack what it takes.
        truth: Content of `truth.json`.
    """
    found: Rows = []
    means = {(row["preset"], row["target"]): row["auc"] for row in means_of(presets)}
    for target in dict.fromkeys(target for _, target in means):
        lacking = {name: means[name, target] for name in world.without if (name, target) in means}
        if not lacking:
            continue
        base = max(lacking, key=lambda name: lacking[name])
        ceiling = truth[f"{target}_auc_ceiling"]
        without = next(truth[name] for name in truth if name.startswith(f"{target}_auc_ceiling_without"))
        for preset in presets:
            if (preset, target) in means:
                auc = means[preset, target]
                row = {"target": target, "preset": preset, "auc": auc, "ceiling": ceiling, "ceiling_without": without}
                row |= {"without": base, "closed": (auc - lacking[base]) / (ceiling - lacking[base])}
                row |= {"made_for": preset == world.made_for, "of_mechanism": (auc - without) / (ceiling - without)}
                found.append(row)
    return found


def trees_share(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Gives, by target, how much of a world's gap the trees close."""
    return {row["target"]: row["of_mechanism"] for row in rows if row["preset"] == TREES}


def _targets(runs: BySeed) -> list[str]:
    return list(next(iter(runs.values())).metrics)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
